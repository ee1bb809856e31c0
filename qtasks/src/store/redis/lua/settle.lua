-- ARGV from 2, some settlements at a time: what holds the jobs, where they go, the time at which they are due or have ended,
-- how many they are, and of each the lease, how it stands then, and, where it is to wait, the attempt that ends, or nothing.
-- Gives for each whether it was written.

local answer, changed, over, work = {}, {}, {}, false

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

-- The leases whose jobs have as many steps as they must: 1 or 0 for each.
local function have_steps(leases, steps)
    local have = {}
    for index, lease in ipairs(leases) do
        local recorded = call('GETRANGE', COUNTS .. lease:sub(1, ID), 4, 11)
        have[index] = (recorded ~= '' and recorded or NO_STEPS) == steps and 1 or 0
    end
    return have
end

-- For each of the leases 1 or 0: whether its job may be settled. If so, no worker holds it any more.
local function set_free(hold, leases)
    local kind = hold:sub(1, 1)
    local length = LENGTHS[kind]
    local have = #hold > length and have_steps(leases, hold:sub(length + 1))
    if kind == 'S' then
        local are = {}
        for index, lease in ipairs(leases) do
            are[index] = (not have or have[index] == 1) and found(hold, lease) and 1 or 0
        end
        return are
    end
    local worker = hold:sub(2, 17)
    -- A renewal since its worker was seen to be silent wins.
    local has_renewed = kind == 'B' and string.format('%20s', beat_of(worker)) ~= hold:sub(18, length)
    local are, all, count = are_in(key('held:', worker), leases), {}, 0
    for index = 1, #leases do
        if has_renewed or have and have[index] == 0 then
            are[index] = 0
        elseif are[index] == 1 then
            count = count + 1
            all[count] = leases[index]
        end
    end
    call_all('SREM', key('held:', worker), all)
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
    local hold, where, time, size = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
    local ends = where == 'finished' or where == 'dead'
    local width, leases, standings, ended, count = ends and 2 or 3, {}, {}, {}, 0
    for index = 1, size do
        leases[index] = ARGV[at + 4 + (index - 1) * width]
    end
    local free = set_free(hold, leases)
    for index = 1, size do
        answer[#answer + 1] = free[index]
        if free[index] == 1 then
            local from = at + 4 + (index - 1) * width
            local id = leases[index]:sub(1, ID)
            standings[2 * count + 1], standings[2 * count + 2] = STANDING .. id, ARGV[from + 1]
            count = count + 1
            ended[count], changed[#changed + 1] = id, id
            if not ends then
                wait_again(id, where, time, ARGV[from + 2], ARGV[from + 1])
            end
        end
    end
    set_all(standings)
    if ends and count > 0 then
        local ids = table.concat(ended)
        call('ZADD', key(where), time, ids)
        over[#over + 1] = ids
    end
    at = at + 4 + size * width
end
notify(changed, over, work)
return answer
