-- What all scripts begin with. KEYS[1] is what every key begins with, ARGV[1] the store that calls.
--
-- Numbers of Lua are doubles: times, counts and ranks fit, while hashes and progress pass through as bytes. Ids are 16
-- bytes and never compared by `<`, which goes by the locale of the server.

local call = redis.call
local job_key = KEYS[1] .. 'j:'
local WAITING, RUNNING, DEAD = 0, 1, 3
-- As many values as one command takes by `unpack`.
local MOST = 4000
-- Until when the leases of a worker last that never said so, or has left.
local LONG_AGO = -9007199254740992

-- Calls a command for the values from one place to another, some at a time; gives the sum of the answers.
local function call_range(command, key, values, first, last)
    local sum = 0
    for from = first, last, MOST do
        sum = sum + call(command, key, unpack(values, from, math.min(from + MOST - 1, last)))
    end
    return sum
end

local function call_all(command, key, values)
    return call_range(command, key, values, 1, #values)
end

-- Sets keys to values, which stand in turn.
local function set_all(values, first, last)
    for from = first, last, MOST do
        call('MSET', unpack(values, from, math.min(from + MOST - 1, last)))
    end
end

-- Whether the leases of a worker have run out at a time.
local function ran_out(worker, now)
    local last = call('ZSCORE', KEYS[1] .. 'workers', worker)
    return not last or tonumber(last) < now
end

-- Jobs are due now, or were, that stand in line: up to this time.
local function reach()
    return tonumber(call('GET', KEYS[1] .. 'reach') or LONG_AGO)
end

local function reach_to(time)
    if time > reach() then
        call('SET', KEYS[1] .. 'reach', time)
    end
end

-- Lets jobs wait in a lane: `where` is `ready`, `suspects` or `later`, and `scored` a rank or a time and an id in turn.
local function wait(where, lane, scored)
    if #scored > 0 then
        call_all('ZADD', KEYS[1] .. where .. ':' .. lane, scored)
        call('SADD', KEYS[1] .. 'lanes', lane)
    end
end

-- Enqueues the jobs that stand in ARGV from `at` to `last`: the latest time at which one is due that is so already, and how
-- many they are; for the list of all jobs 0 and each id in turn; each key and job in turn; and for each lane where in it,
-- its name, how many jobs, and each rank or time and id in turn.
local function enqueue(at, last)
    local count = tonumber(ARGV[at + 1])
    local jobs, lanes, is_new = at + 2 + 2 * count, at + 2 + 4 * count
    if ARGV[at] ~= '' then
        reach_to(tonumber(ARGV[at]))
    end
    if call_range('ZADD', KEYS[1] .. 'jobs', ARGV, at + 2, jobs - 1) == count then
        set_all(ARGV, jobs, lanes - 1)
    else
        is_new = {}
        for place = jobs, lanes - 1, 2 do
            if call('SETNX', ARGV[place], ARGV[place + 1]) == 1 then
                is_new[ARGV[place - 2 * count + 1]] = true
            end
        end
    end
    while lanes <= last do
        local where, lane, size, scored = ARGV[lanes], ARGV[lanes + 1], 2 * tonumber(ARGV[lanes + 2]), {}
        for place = lanes + 4, lanes + 2 + size, 2 do
            if not is_new or is_new[ARGV[place]] then
                scored[#scored + 1] = ARGV[place - 1]
                scored[#scored + 1] = ARGV[place]
            end
        end
        wait(where, lane, scored)
        lanes = lanes + 3 + size
    end
end

-- Tells all processes what is new: of which jobs, which of them have ended, whether there is work, and whether a worker is
-- gone.
local function tell(news, ended, work, lost)
    if #news > 0 or work or lost then
        local flags = (work and 1 or 0) + (lost and 2 or 0)
        local told = ARGV[1] .. struct.pack('>BI4', flags, #news) .. table.concat(news) .. table.concat(ended)
        call('PUBLISH', KEYS[1] .. 'news', told)
    end
end
