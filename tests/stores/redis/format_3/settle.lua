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

-- How jobs stand, and the workers that hold them.

-- When a job is due that waits, or has ended, by how it stands.
local function due_or_ended(standing)
    return struct.unpack('>i8', standing, 27)
end

-- Whether a job is a suspect, by how it stands.
local function is_suspect(standing)
    return standing:byte(2) % 2 == 1
end

-- What a suspect has survived, by the bytes that say so. A program of format 2 that still runs leaves them out.
local function survived(bytes)
    return #bytes == 8 and struct.unpack('>I8', bytes) or 0
end

-- The attempt with which a job has ended, by how it stands, or nothing.
local function last_attempt(standing)
    local behind = is_suspect(standing) and 59 or 39
    return standing:sub(behind + 1, behind + struct.unpack('>I4', standing, 36))
end

-- Of the attempts of a job so many of the first and of the last are kept.
local FIRST_ATTEMPTS, LAST_ATTEMPTS = 10, 90

-- The attempts of a job that are kept, but for as many of the last as there are `besides`.
local function kept_attempts(id, besides)
    local history = key('h:', id)
    local size, last = call('LLEN', history), LAST_ATTEMPTS - besides
    if size <= FIRST_ATTEMPTS + last then
        return call('LRANGE', history, 0, -1)
    end
    local kept = call('LRANGE', history, 0, FIRST_ATTEMPTS - 1)
    for _, attempt in ipairs(call('LRANGE', history, -last, -1)) do
        kept[#kept + 1] = attempt
    end
    return kept
end

-- Puts an attempt that has ended behind those that are kept.
local function add_attempt(id, attempt)
    local history = key('h:', id)
    local is_kept, size = pcall(insist, 'RPUSH', history, attempt)
    -- If an operator has put another kind of value there, the job goes on all the same.
    if not is_kept or size <= FIRST_ATTEMPTS + LAST_ATTEMPTS then
        return
    end
    local first = call('LRANGE', history, 0, FIRST_ATTEMPTS - 1)
    call('LTRIM', history, -LAST_ATTEMPTS, -1)
    for index = FIRST_ATTEMPTS, 1, -1 do
        call('LPUSH', history, first[index])
    end
end

-- Deletes all that there is of a job.
local function delete(id)
    local keys = {}
    for index, kind in ipairs({ 'j:', 'p:', 'c:', 's:', 'm:', 'n:', 'h:' }) do
        keys[index] = key(kind, id)
    end
    call('UNLINK', unpack(keys))
end

-- The beat of a worker, or nothing: it never renewed, has left, or is not known.
local function beat_of(worker)
    local beat = call('HGET', key('beats'), worker)
    return beat and beat ~= LEFT and beat or ''
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

-- ARGV from 2, some settlements at a time: what holds the jobs, where they go, the time at which they are due or have ended,
-- how many they are, all ids as one value, the leases, then of each the key and how it stands, and, where they are to wait,
-- of each the attempt that ends, or nothing.
-- Gives 1 if all were written, or for each whether it was.

local answer, changed, over, work, all_written = {}, {}, {}, false, true

-- The numbers of how a job stands: the state and the attempt; one that never ran waits.
local function numbers(standing)
    local state, _, attempt = struct.unpack('>BBc4', standing or '\0\0\0\0\0\0')
    return state, attempt
end

-- How long the part of each kind is that says who holds a job; behind it may stand how many steps the job must have.
local LENGTHS = { L = 17, B = 37, S = 2 }

-- Whether a job is as it was seen; if so, takes it from where its state had put it.
local function found(hold, lease)
    local id = lease:sub(1, ID)
    local standing = call('GET', STANDING .. id)
    local state, attempt = numbers(standing)
    if state ~= struct.unpack('B', hold, 2) or attempt ~= lease:sub(17) then
        return false
    end
    if not standing and call('EXISTS', JOB .. id) == 0 then
        return false
    end
    if state == RUNNING then
        call('SREM', key('held:', standing:sub(7, 22)), lease)
    elseif state == WAITING then
        local _, lane = rank_and_lane(id)
        -- Further behind in line it is passed over when its turn comes.
        if not standing and call('LINDEX', key('line:', lane), 0) == id then
            call('LPOP', key('line:', lane))
        end
        for _, where in ipairs({ 'ready:', 'suspects:', 'later:' }) do
            call('ZREM', key(where, lane), id)
        end
    else
        local last = last_attempt(standing)
        if last ~= '' then
            add_attempt(id, last)
        end
    end
    return true
end

local NO_STEPS = string.rep('\0', 8)

-- The leases in ARGV whose jobs have as many steps as they must: 1 or 0 for each.
local function have_steps(first, last, steps)
    local have = {}
    for index = first, last do
        local recorded = call('GETRANGE', COUNTS .. ARGV[index]:sub(1, ID), 4, 11)
        have[#have + 1] = (recorded ~= '' and recorded or NO_STEPS) == steps and 1 or 0
    end
    return have
end

-- For each of the leases in ARGV 1 or 0: whether its job may be settled. If so, no worker holds it any more.
local function set_free(hold, first, last)
    local kind, size = hold:sub(1, 1), last - first + 1
    local length = LENGTHS[kind]
    local have = #hold > length and have_steps(first, last, hold:sub(length + 1))
    local are, free = {}, {}
    if kind == 'S' then
        for index = 1, size do
            are[index] = (not have or have[index] == 1) and found(hold, ARGV[first + index - 1]) and 1 or 0
        end
        return are
    end
    local worker = hold:sub(2, 17)
    -- A renewal since its worker was seen to be silent wins.
    local has_renewed = kind == 'B' and string.format('%20s', beat_of(worker)) ~= hold:sub(18, length)
    are = are_in(key('held:', worker), ARGV, first, last)
    for index = 1, size do
        if has_renewed or have and have[index] == 0 then
            are[index] = 0
        elseif are[index] == 1 then
            free[#free + 1] = ARGV[first + index - 1]
        end
    end
    call_all('SREM', key('held:', worker), free)
    return are
end

-- Lets a job wait again.
local function wait_again(id, where, time, attempt, standing)
    if attempt ~= '' then
        add_attempt(id, attempt)
    end
    local rank, lane = rank_and_lane(id)
    if lane then
        local score = where == 'later:' and time or rank
        if where == 'suspects:' then
            score = suspect_score(rank, survived(standing:sub(40, 47)))
        end
        wait(where, lane, { score, id })
        work = true
    end
    if where ~= 'later:' then
        reach_to(tonumber(time))
    end
end

local at = 2
while at <= #ARGV do
    local hold, where, time, size, ids = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3]), ARGV[at + 4]
    local ends = where == 'finished' or where == 'dead'
    local leases, standings, attempts = at + 4, at + 5 + size, at + 4 + 3 * size
    local free, written, some = set_free(hold, leases + 1, leases + size), 0, {}
    for index = 1, size do
        written = written + free[index]
        answer[#answer + 1] = free[index]
    end
    if written == size then
        set_range(ARGV, standings, attempts)
    else
        all_written = false
        for index = 1, size do
            if free[index] == 1 then
                some[#some + 1] = ARGV[leases + index]:sub(1, ID)
                set_range(ARGV, standings + 2 * index - 2, standings + 2 * index - 1)
            end
        end
        ids = table.concat(some)
    end
    for index = 1, ends and 0 or size do
        if free[index] == 1 then
            wait_again(ARGV[leases + index]:sub(1, ID), where, time, ARGV[attempts + index], ARGV[standings + 2 * index - 1])
        end
    end
    if written > 0 then
        changed[#changed + 1] = ids
    end
    if ends and written > 0 then
        call('ZADD', key(where), time, ids)
        over[#over + 1] = ids
    end
    at = attempts + (ends and 1 or size + 1)
end
notify(changed, over, work)
return all_written and 1 or answer
