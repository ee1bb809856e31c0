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

-- ARGV from 2: the worker, how many jobs, how one may be a suspect (0 not at all, 1 beside others, 2 alone), the time, and
-- the lanes.
-- Gives when the next job will be due, whether a suspect waits, whether to ask again for more, the ids of the jobs, the jobs,
-- and of each job that has run before: which one of them it is, how it stood, and its counts.

local worker, limit, suspects, now = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
-- How many jobs are read at a time: they may be large.
local READ = 32
-- How many jobs that are not due are passed over in a lane, when the clock of the worker is behind. The jobs behind them are
-- for other workers.
local PASSED = 1000
-- How many ids in line that do not wait any more are taken out of a lane at a time.
local USELESS = 4000
-- How many jobs whose time has come are let into a lane at a time.
local COME = 10000
-- Where more jobs are in line than asked for, how many of them are looked at for one that is not due.
local AHEAD = 16

local next_due
local function see(due)
    if not next_due or due < next_due then
        next_due = due
    end
end

local asked, lanes = {}, {}
for index = 6, #ARGV do
    asked[index - 5] = ARGV[index]
end
for index, waits in ipairs(are_in(key('lanes'), asked)) do
    if waits == 1 then
        lanes[#lanes + 1] = asked[index]
    end
end
local page = math.min(math.max(math.ceil(limit / math.max(#lanes, 1)), 1), READ)

-- Lets jobs whose time has come stand in line with those that were due from the beginning.
local function promote(lane)
    local later = key('later:', lane)
    local first = call('ZRANGE', later, 0, 0, 'WITHSCORES')
    if first[2] and tonumber(first[2]) <= now then
        local due = call('ZRANGEBYSCORE', later, '-inf', now, 'LIMIT', 0, COME)
        local ready, scored = {}, {}
        for _, id in ipairs(due) do
            local rank = call('GETRANGE', JOB .. id, 0, 1)
            if rank ~= '' then
                rank = struct.unpack('>h', rank)
                if call('GETRANGE', STANDING .. id, 1, 1) == '\1' then
                    local score = suspect_score(rank, survived(call('GETRANGE', STANDING .. id, 39, 46)))
                    scored[#scored + 1], scored[#scored + 2] = score, id
                else
                    ready[#ready + 1], ready[#ready + 2] = rank, id
                end
            end
        end
        wait('ready:', lane, ready)
        wait('suspects:', lane, scored)
        call_all('ZREM', later, due)
        reach_to(now)
        first = call('ZRANGE', later, 0, 0, 'WITHSCORES')
    end
    if first[2] then
        see(tonumber(first[2]))
    end
end

-- A cursor over jobs of a lane that wait: over the line, which is a list of jobs that never ran, or over a set of others.
local function new_cursor(where, lane)
    local cursor = { key = key(where, lane), lane = lane, from = 0, ids = {}, index = 1, out = {}, kept = {}, useless = 0 }
    cursor.in_line, cursor.suspects = where == 'line:', where == 'suspects:'
    return cursor
end

-- The ids from an index on, and their ranks, if they are not the usual ones, or the scores of suspects.
local function range(cursor, from, count)
    if cursor.in_line then
        return call('LRANGE', cursor.key, from, from + count - 1)
    end
    local ids, scores = {}, {}
    local scored = call('ZRANGE', cursor.key, from, from + count - 1, 'WITHSCORES')
    for index = 1, #scored, 2 do
        ids[#ids + 1], scores[#scores + 1] = scored[index], tonumber(scored[index + 1])
    end
    return ids, scores
end

local function turn_page(cursor)
    cursor.from = cursor.from + #cursor.ids
    local count = cursor.useless > 0 and READ or page
    cursor.ids, cursor.scores = range(cursor, cursor.from, count)
    cursor.index, cursor.is_last = 1, #cursor.ids < count
    if #cursor.ids > 0 then
        cursor.jobs, cursor.standings, cursor.counts = get_all(keys_of(JOB, cursor.ids)), {}, {}
        -- Hardly any job in line has been called off; `start_new` finds those that this overlooks.
        if not cursor.in_line or call('EXISTS', STANDING .. cursor.ids[1]) == 1 then
            cursor.standings, cursor.counts = get_all(keys_of(STANDING, cursor.ids)), get_all(keys_of(COUNTS, cursor.ids))
        end
    end
end

-- When a job is due: by how it stands, if it has run, or else by itself.
local function due_of(job, standing)
    return standing and due_or_ended(standing) or struct.unpack('>i8', job, 3)
end

-- Whether a job can be leased, apart from its time. It cannot when the server has evicted it, an operator has deleted it, or
-- it was called off while it stood in line.
local function is_leasable(cursor, job, standing)
    return job and not (standing and (cursor.in_line or standing:byte() ~= WAITING))
end

local ask_again = 0

-- Moves a cursor on to the next job that is due; to nothing, where there is none.
local function advance(cursor, behind)
    while not cursor.ended do
        local index = cursor.index
        if index > #cursor.ids then
            cursor.ended = cursor.is_last
            if not cursor.ended then
                turn_page(cursor)
            end
        else
            local id, job, standing = cursor.ids[index], cursor.jobs[index], cursor.standings[index]
            if not is_leasable(cursor, job, standing) then
                cursor.out[#cursor.out + 1], cursor.useless = id, cursor.useless + 1
                if cursor.useless == USELESS then
                    cursor.ended, ask_again = true, 1
                end
            elseif not behind or due_of(job, standing) <= now then
                cursor.at, cursor.score = index, cursor.scores and cursor.scores[index] or USUAL
                cursor.rank = cursor.suspects and struct.unpack('>h', job) or cursor.score
                cursor.index = index + 1
                return
            else
                see(due_of(job, standing))
                cursor.kept[#cursor.kept + 1] = id
                cursor.ended = #cursor.kept == PASSED
            end
            cursor.index = index + 1
        end
    end
    cursor.at = nil
end

-- Takes out the jobs that are leased, and ids that are of no use.
local function take_out(cursor)
    if not cursor.in_line then
        call_all('ZREM', cursor.key, cursor.out)
        return
    end
    -- All that stand before the job that the cursor has come to are leased, of no use, or kept.
    local count = cursor.from + (cursor.at or cursor.index) - 1
    if count > #cursor.kept then
        call('LPOP', cursor.key, count)
        local kept = {}
        for index = #cursor.kept, 1, -1 do
            kept[#kept + 1] = cursor.kept[index]
        end
        call_all('LPUSH', cursor.key, kept)
    end
end

local cursors, seen = {}, {}
-- Whether jobs wait beside a line.
local any_beside = false
for _, lane in ipairs(lanes) do
    if not seen[lane] then
        seen[lane] = true
        if call('EXISTS', key('ready:', lane), key('suspects:', lane), key('later:', lane)) > 0 then
            promote(lane)
            any_beside = true
            cursors[#cursors + 1], cursors[#cursors + 2] = new_cursor('ready:', lane), new_cursor('suspects:', lane)
        end
        -- A job that stands in line too was called off there, so that it is taken from beside it first.
        cursors[#cursors + 1] = new_cursor('line:', lane)
    end
end
local behind = #cursors > 0 and now < reach()
for _, cursor in ipairs(cursors) do
    advance(cursor, behind)
end

-- Whether a cursor comes before another, by rank or score, and then by id.
local function is_less(cursor, other, by)
    if cursor[by] ~= other[by] then
        return cursor[by] < other[by]
    end
    return is_before(cursor.ids[cursor.at], other.ids[other.at])
end

-- The cursor at the one suspect that may be leased: of those that the cursors have come to, the first by score.
local seat
for _, cursor in ipairs(cursors) do
    if suspects > 0 and cursor.suspects and cursor.at and (not seat or is_less(cursor, seat, 'score')) then
        seat = cursor
    end
end

local function is_more_urgent(cursor, other)
    return is_less(cursor, other, 'rank')
end

-- The cursor at the most urgent job, and the next one.
local function most_urgent()
    local first, second
    for _, cursor in ipairs(cursors) do
        if cursor.at and (not cursor.suspects or cursor == seat) then
            if not first or is_more_urgent(cursor, first) then
                first, second = cursor, first
            elseif not second or is_more_urgent(cursor, second) then
                second = cursor
            end
        end
    end
    return first, second
end

-- The jobs that are leased, and of each that has run before: which one it is, how it stood, and its counts.
local ids, jobs, leases, before, leased = {}, {}, {}, {}, 0
-- How jobs stand from now on that are leased for the first time, and how the others do: each key before its value.
local new, again, values = {}, {}, 0
-- How a job stands that runs for the first time.
local NEW = struct.pack('>BBI4', RUNNING, 0, 1) .. worker .. struct.pack('>I4i8BI4', 0, 0, 255, 0)

local function lease_new(id, job)
    new[values + 1], new[values + 2] = STANDING .. id, NEW
    leased, values = leased + 1, values + 2
    ids[leased], jobs[leased], leases[leased] = id, job, id .. '\0\0\0\1'
end

-- Leases the job that a cursor has come to and that has run before.
local function lease_again(cursor, id, standing)
    local attempt = struct.pack('>I4', struct.unpack('>I4', standing, 3) + 1)
    local flags, known = '\0', ''
    if cursor.suspects then
        -- A program of format 2 that still runs leaves out what is known of a suspect.
        known = #standing == 59 and standing:sub(40, 51) or string.rep('\0', 12)
        flags, known = suspects == 2 and '\3' or '\1', known .. struct.pack('>i8', now)
    end
    again[#again + 1] = STANDING .. id
    again[#again + 1] = '\1' .. flags .. attempt .. worker .. standing:sub(23, 26) .. NEW:sub(27) .. known
    leased = leased + 1
    ids[leased], jobs[leased], leases[leased] = id, cursor.jobs[cursor.at], id .. attempt
    local count = #before
    before[count + 1], before[count + 2], before[count + 3] = leased, standing, cursor.counts[cursor.at] or false
end

-- A job may stand in two places: it was called off in line and pruned, say, and has been enqueued again.
local taken = {}

-- Leases the job beside the line that a cursor has come to, and moves the cursor on.
local function take(cursor)
    local id, standing = cursor.ids[cursor.at], cursor.standings[cursor.at]
    if not taken[id] then
        if standing then
            lease_again(cursor, id, standing)
        else
            lease_new(id, cursor.jobs[cursor.at])
        end
    end
    taken[id] = true
    cursor.out[#cursor.out + 1] = id
    if cursor.suspects then
        seat = nil
    end
    if leased < limit or cursor.suspects then
        advance(cursor, behind)
    else
        cursor.at = nil
    end
end

-- Leases the job in line that a cursor has come to, and those behind it that may go before the job of the other cursor, if
-- there is one, and moves the cursor on.
local function take_from_line(cursor, other)
    local page, of_page, standings, index = cursor.ids, cursor.jobs, cursor.standings, cursor.at
    local rival = other and other.rank == USUAL and other.ids[other.at]
    repeat
        local id = page[index]
        if not taken[id] then
            lease_new(id, of_page[index])
            taken[id] = any_beside or nil
        end
        index = index + 1
    until leased == limit or behind or not of_page[index] or standings[index] or rival and not is_before(page[index], rival)
    cursor.index, cursor.at = index, nil
    if leased < limit then
        advance(cursor, behind)
    end
end

local first, second = most_urgent()
while first and leased < limit do
    if first.in_line then
        take_from_line(first, second)
    else
        take(first)
    end
    if not first.at or first.suspects or second and not is_more_urgent(first, second) then
        first, second = most_urgent()
    end
end

-- Lets go of the jobs that were called off in line. How they stand says so: they are not new.
local function let_go_of_called_off()
    local has_run, kept = {}, {}
    for index = 1, #before, 3 do
        has_run[before[index]] = true
    end
    new = {}
    for index = 1, leased do
        local standing = STANDING .. ids[index]
        if not has_run[index] and call('EXISTS', standing) == 1 then
            jobs[index], ask_again = false, 1
        else
            kept[#kept + 1] = leases[index]
            if not has_run[index] then
                new[#new + 1], new[#new + 2] = standing, NEW
            end
        end
    end
    leases = kept
end

-- Says of the jobs that are leased for the first time that they run.
local function start_new()
    if #new > MOST or #new > 0 and insist('MSETNX', unpack(new)) == 0 then
        let_go_of_called_off()
        set_all(new)
    end
end

if leased > 0 then
    start_new()
    set_all(again)
    call_all('SADD', key('held:', worker), leases)
    call('HSETNX', key('beats'), worker, '')
end
local suspect_waits = 0
for _, cursor in ipairs(cursors) do
    if behind and not cursor.ended then
        local some = range(cursor, cursor.from + cursor.index - 1, AHEAD)
        local all, standings = get_all(keys_of(JOB, some)), get_all(keys_of(STANDING, some))
        for index = 1, #some do
            local job, standing = all[index], standings[index]
            if is_leasable(cursor, job, standing) and due_of(job, standing) > now then
                see(due_of(job, standing))
            end
        end
    end
    take_out(cursor)
    if cursor.suspects and cursor.at then
        suspect_waits = 1
    end
end
for _, cursor in ipairs(cursors) do
    local lane = cursor.lane
    if cursor.in_line and call('EXISTS', cursor.key, key('ready:', lane), key('suspects:', lane), key('later:', lane)) == 0 then
        call('SREM', key('lanes'), lane)
    end
end
return { next_due or false, suspect_waits, ask_again, ids, jobs, before }
