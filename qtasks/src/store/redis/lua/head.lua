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

-- What the keys begin with since format 4. Programs of older formats know none of them, so that they change no job.
local OURS = KEYS[1] .. '4:'

-- The key of what there is of a kind, of a job, a lane or a worker, or of all.
local function key(kind, of)
    return OURS .. kind .. (of or '')
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

local function forget_worker(worker)
    call('HDEL', key('beats'), worker)
    call('HDEL', key('lane_of'), worker)
end

local function is_before(id, other)
    local a, b, c = struct.unpack('>I6I6I4', id)
    local d, e, f = struct.unpack('>I6I6I4', other)
    return a < d or a == d and (b < e or b == e and c < f)
end

