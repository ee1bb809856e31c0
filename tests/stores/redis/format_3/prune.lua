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

-- ARGV from 2: before when finished jobs have ended, and dead ones; and how many. Gives how many were looked at, and how
-- many deleted.

local limit, looked, gone = tonumber(ARGV[4]), 0, {}
local STATES = { finished = { [DONE] = true, [CANCELLED] = true }, dead = { [DEAD] = true } }

-- Deletes a job, unless it has run again since.
local function prune(id, where, before)
    local standing = call('GET', STANDING .. id)
    if standing and STATES[where][standing:byte()] and due_or_ended(standing) < before then
        delete(id)
        gone[#gone + 1] = id
    end
end

for index, where in ipairs({ 'finished', 'dead' }) do
    local before = ARGV[1 + index]
    while looked < limit do
        local ids, time = unpack(call('ZRANGEBYSCORE', key(where), '-inf', '(' .. before, 'WITHSCORES', 'LIMIT', 0, 1))
        if not ids then
            break
        end
        local count = math.min(#ids / ID, limit - looked)
        for each = 0, count - 1 do
            prune(ids:sub(each * ID + 1, (each + 1) * ID), where, tonumber(before))
        end
        looked = looked + count
        call('ZREM', key(where), ids)
        local rest = ids:sub(count * ID + 1)
        if rest ~= '' then
            -- One that has ended again, alone, stands at that time already.
            call('ZADD', key(where), 'NX', time, rest)
        end
    end
end

-- Lets go of the ids at the head of the list whose jobs are gone, and moves those that stay to the set beside it.
local function trim(latest)
    local ids, stay, count = call('LRANGE', key('ids'), 0, 4 * #gone), {}, 0
    for _, id in ipairs(ids) do
        if call('EXISTS', JOB .. id) == 1 then
            if is_before(latest, id) then
                break
            end
            stay[#stay + 1], stay[#stay + 2] = 0, id
        end
        count = count + 1
    end
    if count > 0 then
        call_all('ZADD', key('jobs'), stay)
        call('LPOP', key('ids'), count)
    end
end

if #gone > 0 then
    local latest = gone[1]
    for _, id in ipairs(gone) do
        latest = is_before(latest, id) and id or latest
    end
    call_all('ZREM', key('jobs'), gone)
    trim(latest)
end
return { looked, #gone }
