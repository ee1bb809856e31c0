-- What all scripts begin with. KEYS[1] is what every key begins with, ARGV[1] the store that calls.
--
-- Numbers of Lua are doubles: times, counts and ranks fit, while hashes and progress pass through as bytes. Ids are 16
-- bytes and never compared by `<`, which goes by the locale of the server. A lease is the id and the attempt, 20 bytes.

local call = redis.call
local WAITING, RUNNING, DONE, DEAD, CANCELLED = 0, 1, 2, 3, 4
-- The rank of jobs that wait in line.
local USUAL = -1
-- The bytes of an id.
local ID = 16
-- How many values one command takes by `unpack`.
local MOST = 4000
-- Stands in place of the beat of a worker that has left and holds leases. A worker that never renewed has an empty beat.
local LEFT = 'left'

-- The key of what there is of a kind, of a job, a lane or a worker, or of all.
local function key(kind, of)
    return KEYS[1] .. kind .. (of or '')
end

-- What keys of jobs begin with: of the jobs, of how they stand, and of their counts.
local JOB, STANDING, COUNTS = key('j:'), key('p:'), key('c:')

-- A server whose memory is full refuses a script whose first write may take some; all later ones it carries out. This is a
-- write that takes none: nothing stands there. Scripts that work off jobs begin with it on a full server, and enqueueing
-- never does.
local function begin_though_full()
    call('DEL', KEYS[1])
end

-- Calls a command that may be the first write, also on a full server.
local function insist(...)
    local answer = redis.pcall(...)
    if type(answer) == 'table' and answer.err then
        begin_though_full()
        return call(...)
    end
    return answer
end

-- Calls a command for the values from one index to another, some at a time, by `write`; gives the sum of the answers.
local function call_range(command, where, values, first, last, write)
    local sum = 0
    for from = first, last, MOST do
        sum = sum + (write or call)(command, where, unpack(values, from, math.min(from + MOST - 1, last)))
    end
    return sum
end

local function call_all(command, where, values, write)
    return call_range(command, where, values, 1, #values, write)
end

-- Sets keys to values, which stand in turn from one index to another, also on a full server.
local function set_range(values, first, last)
    for from = first, last, MOST do
        insist('MSET', unpack(values, from, math.min(from + MOST - 1, last)))
    end
end

local function set_all(values)
    set_range(values, 1, #values)
end

-- The keys of jobs that begin with the same.
local function keys_of(kind, ids)
    local keys = {}
    for index = 1, #ids do
        keys[index] = kind .. ids[index]
    end
    return keys
end

-- What is answered to each of the values from one index to another, when some are asked for at a time.
local function ask_range(values, first, last, ask)
    if last - first < MOST then
        return first <= last and ask(unpack(values, first, last)) or {}
    end
    local answers = {}
    for from = first, last, MOST do
        for _, answer in ipairs(ask(unpack(values, from, math.min(from + MOST - 1, last)))) do
            answers[#answers + 1] = answer
        end
    end
    return answers
end

local function get_all(keys)
    return ask_range(keys, 1, #keys, function(...)
        return call('MGET', ...)
    end)
end

-- Which of the values from one index to another are in a set: 1 or 0 for each.
local function are_in(set, values, first, last)
    return ask_range(values, first or 1, last or #values, function(...)
        return call('SMISMEMBER', set, ...)
    end)
end

local function is_before(id, other)
    local a, b, c = struct.unpack('>I6I6I4', id)
    local d, e, f = struct.unpack('>I6I6I4', other)
    return a < d or a == d and (b < e or b == e and c < f)
end

-- Where jobs wait.

-- Before all times of jobs.
local LONG_AGO = -9007199254740992

-- Jobs are due now, or were, that stand in line: up to this time.
local function reach()
    return tonumber(call('GET', key('reach')) or LONG_AGO)
end

local function reach_to(time)
    if time > reach() then
        call('SET', key('reach'), time)
    end
end

-- The rank and the lane of a job, if it is there.
local function rank_and_lane(id)
    local first = call('GETRANGE', JOB .. id, 0, 29)
    if first == '' then
        return
    end
    local rank, _, length = struct.unpack('>hc24I4', first)
    return rank, call('GETRANGE', JOB .. id, 30, 29 + length)
end

-- The less, the sooner a suspect is leased: by what it has survived, in milliseconds, then by rank. Beyond two years all have
-- survived the same, so that a double holds the score exactly.
local function suspect_score(rank, survived)
    return math.min(survived, 68719476736) * 65536 + rank + 32768
end

-- Lets jobs wait in a lane: `where` is `ready:`, `suspects:` or `later:`, and `scored` a rank, a score or a time and an id in
-- turn.
local function wait(where, lane, scored)
    if #scored > 0 then
        call_all('ZADD', key(where, lane), scored, insist)
        call('SADD', key('lanes'), lane)
    end
end

-- How jobs come to the server.

-- Adds ids, in their order, to a list that is in it; where they do not come last, to a set beside it, each with a score.
local function append(list, set, score, values, first, last)
    local end_of_list = call('LINDEX', list, -1)
    if not end_of_list or is_before(end_of_list, values[first]) then
        return call_range('RPUSH', list, values, first, last)
    end
    local scored = {}
    for index = first, last do
        scored[#scored + 1], scored[#scored + 2] = score, values[index]
    end
    call_all('ZADD', set, scored)
end

-- Sets the keys that stand in ARGV, each before its job; gives the ids of those that were there, if any.
local function set_new(first, last)
    local known
    for from = first, last, MOST do
        local to = math.min(from + MOST - 1, last)
        if call('MSETNX', unpack(ARGV, from, to)) == 0 then
            known = known or {}
            for index = from, to, 2 do
                if call('SETNX', ARGV[index], ARGV[index + 1]) == 0 then
                    known[ARGV[index]:sub(-ID)] = true
                end
            end
        end
    end
    return known
end

-- Enqueues the jobs that stand in ARGV from `at` to `last`: the latest time at which one is due that is so already, and how
-- many they are; their ids in order; each key and job in turn; and for each lane where in it, its name, how many jobs, or 0
-- for all, and their ids in order, or for those that are not due or not of the usual rank each rank or time and id in turn.
local function enqueue(at, last)
    local count = tonumber(ARGV[at + 1])
    local jobs, lanes = at + 2 + count, at + 2 + 3 * count
    if ARGV[at] ~= '' then
        reach_to(tonumber(ARGV[at]))
    end
    local known = set_new(jobs, lanes - 1)
    -- Where new ones of the values stand, of which each `width` end in an id.
    local function new(first, size, width)
        local to = first + size * width - 1
        if not known then
            return ARGV, first, to
        end
        local values = {}
        for index = first, to, width do
            if not known[ARGV[index + width - 1]] then
                for each = index, index + width - 1 do
                    values[#values + 1] = ARGV[each]
                end
            end
        end
        return values, 1, #values
    end
    local values, first, to = new(at + 2, count, 1)
    if first <= to then
        append(key('ids'), key('jobs'), 0, values, first, to)
    end
    while lanes <= last do
        local where, lane, size = ARGV[lanes], ARGV[lanes + 1], tonumber(ARGV[lanes + 2])
        local width = where == 'line:' and 1 or 2
        -- Or it is for all of them.
        if size > 0 then
            values, first, to = new(lanes + 3, size, width)
        end
        if first <= to then
            if width == 1 then
                append(key('line:', lane), key('ready:', lane), USUAL, values, first, to)
            else
                call_range('ZADD', key(where, lane), values, first, to)
            end
            call('SADD', key('lanes'), lane)
        end
        lanes = lanes + 3 + size * width
    end
end

-- How processes notify each other.

-- Notifies all processes: which jobs have changed, which of them have ended, whether there is work, and whether a worker
-- is gone.
local function notify(changed, ended, work, lost)
    if #changed > 0 or work or lost then
        local flags, ids = (work and 1 or 0) + (lost and 2 or 0), table.concat(changed)
        local message = ARGV[1] .. struct.pack('>BI4', flags, #ids / ID) .. ids .. table.concat(ended)
        call('PUBLISH', key('news'), message)
    end
end

-- ARGV from 2, for each record: the worker and the lease, the progress or nothing, and one more byte there if the job is a
-- suspect that has had its turn, how many steps, memos, and values about jobs; then of each step the number and the step; of
-- each memo the number, which memos, by what they stand, and the memo; and the jobs, as `enqueue` takes them.
-- Gives for each record whether it was written, or -1 where one leaves a gap.

local NONE = struct.pack('>I4I8I8I8B', 0, 0, 0, 0, 0) .. string.rep('\0', 16)

local records, ids, by_worker = {}, {}, {}
local at = 2
while at <= #ARGV do
    local worker, lease = ARGV[at], ARGV[at + 1]
    local extra, record = ARGV[at + 2], { id = lease:sub(1, ID), lease = lease, memos = {} }
    record.progress, record.passed = #extra >= 16 and extra:sub(1, 16) or '', #extra % 16 == 1
    record.steps = at + 6
    record.behind_steps = record.steps + 2 * tonumber(ARGV[at + 3])
    record.jobs = record.behind_steps + 4 * tonumber(ARGV[at + 4])
    record.last = record.jobs + tonumber(ARGV[at + 5]) - 1
    records[#records + 1], ids[#ids + 1] = record, record.id
    local of_worker = by_worker[worker] or { leases = {}, records = {} }
    of_worker.leases[#of_worker.leases + 1], of_worker.records[#of_worker.records + 1] = lease, record
    by_worker[worker] = of_worker
    at = record.last + 1
end
for worker, of_worker in pairs(by_worker) do
    for index, holds in ipairs(are_in(key('held:', worker), of_worker.leases)) do
        of_worker.records[index].holds = holds == 1
    end
end

-- The counts of the jobs before and behind the records.
local heads = {}
for index, bytes in ipairs(get_all(keys_of(COUNTS, ids))) do
    local head = { bytes = bytes or NONE, appended = {} }
    head.attempt, head.steps, head.skipped, head.memos = struct.unpack('>c4I8I8I8', head.bytes)
    heads[ids[index]] = head
end

-- Says what becomes of each record, before anything is written: then one with a gap leaves no half behind.
for _, record in ipairs(records) do
    local head = heads[record.id]
    if record.holds then
        for index = record.steps, record.behind_steps - 1, 2 do
            local seq = tonumber(ARGV[index])
            if seq > head.steps then
                return -1
            elseif seq == head.steps then
                local step = ARGV[index + 1]
                head.steps, head.attempt = head.steps + 1, record.lease:sub(ID + 1)
                head.skipped = head.skipped + struct.unpack('B', step)
                head.appended[#head.appended + 1] = step
            end
        end
        for index = record.behind_steps, record.jobs - 1, 4 do
            local number = tonumber(ARGV[index])
            if number > head.memos then
                return -1
            elseif number == head.memos then
                head.memos = head.memos + 1
                record.memos[#record.memos + 1] = index
            end
        end
    end
end

local answer, changed, counts, work = {}, {}, {}, false
for index, record in ipairs(records) do
    answer[index] = record.holds and 1 or 0
    if record.holds then
        local head = heads[record.id]
        for _, memo in ipairs(record.memos) do
            insist('ZADD', key(ARGV[memo + 1], record.id), ARGV[memo + 2], ARGV[memo + 3])
        end
        head.progress = record.progress ~= '' and '\1' .. record.progress or head.progress
        if record.passed and call('GETRANGE', STANDING .. record.id, 1, 1) == '\3' then
            insist('SETRANGE', STANDING .. record.id, 1, '\1')
        end
        if record.last >= record.jobs then
            -- The jobs that a body enqueues are part of its work.
            begin_though_full()
            enqueue(record.jobs, record.last)
            work = true
        end
        head.is_held = true
    end
end
-- Why the steps of one of them cannot be appended. The others are written, for they are to be found so when they are again.
local failure
for id, head in pairs(heads) do
    local is_written = head.is_held
    if is_written then
        local why
        is_written, why = pcall(call_all, 'RPUSH', key('s:', id), head.appended, insist)
        failure = failure or not is_written and why
    end
    if is_written then
        local first = struct.pack('>c4I8I8I8', head.attempt, head.steps, head.skipped, head.memos)
        counts[#counts + 1], counts[#counts + 2] = COUNTS .. id, first .. (head.progress or head.bytes:sub(29))
        changed[#changed + 1] = id
    end
end
set_all(counts)
notify(changed, {}, work)
if failure then
    return type(failure) == 'table' and failure or redis.error_reply(failure)
end
return answer
