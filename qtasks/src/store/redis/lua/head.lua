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

-- Calls a command for many values, some at a time.
local function call_all(command, key, values)
    for from = 1, #values, MOST do
        call(command, key, unpack(values, from, math.min(from + MOST - 1, #values)))
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

-- Enqueues the jobs that stand in ARGV from `at` to `last`: the latest time at which one is due that is so already, and
-- then for each lane where in it, its name, how many jobs, and of each its rank or time, its id, and all of it.
local function enqueue(at, last)
    local ids = {}
    if ARGV[at] ~= '' then
        reach_to(tonumber(ARGV[at]))
    end
    at = at + 1
    while at <= last do
        local where, lane, count, scored = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), {}
        for place = at + 3, at + 3 * count, 3 do
            local id = ARGV[place + 1]
            if call('SETNX', job_key .. id, ARGV[place + 2]) == 1 then
                scored[#scored + 1] = ARGV[place]
                scored[#scored + 1] = id
                ids[#ids + 1] = 0
                ids[#ids + 1] = id
            end
        end
        wait(where, lane, scored)
        at = at + 3 + 3 * count
    end
    call_all('ZADD', KEYS[1] .. 'jobs', ids)
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
