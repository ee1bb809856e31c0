-- ARGV from 2, some settlements at a time: what holds the jobs, where they go, the time at which they are due or have ended,
-- how many they are, all ids as one value, the leases, then of each the key and how it stands, and, where they are to wait,
-- of each the attempt that ends, or nothing.
-- Gives 1 if all were written, or for each whether it was; where jobs were let on that waited for others, 1 and the latter.

local answer, changed, over, work, all_written, has_let_on = {}, {}, {}, false, true, false
-- In which lane all jobs of a worker are; false for one that has jobs of several.
local lanes = {}

-- The numbers of how a job stands: the state and the attempt; one that never ran waits.
local function numbers(standing)
    local state, _, attempt = struct.unpack('>BBc4', standing or '\0\0\0\0\0\0')
    return state, attempt
end

-- How long the part of each kind is that says who holds a job; behind it may stand how many steps the job must have.
local LENGTHS = { L = 17, B = 37, S = 2 }

-- Whether a job is as it was seen; if so, takes it from where its state had put it, and counts that it comes into another.
local function found(hold, lease, to)
    local id = lease:sub(1, ID)
    local standing = call('GET', STANDING .. id)
    local state, attempt = numbers(standing)
    if state ~= struct.unpack('B', hold, 2) or attempt ~= lease:sub(17) then
        return false
    end
    if not standing and call('EXISTS', JOB .. id) == 0 then
        return false
    end
    if state > RUNNING and to <= RUNNING and not may_live_again(id) then
        return false
    end
    local _, lane = rank_and_lane(id)
    if state == RUNNING then
        lane = lane_it_runs_in(standing)
        call('SREM', key('held:', standing:sub(7, 22)), lease)
    elseif state == WAITING then
        if waits_for_others(standing) then
            forget_parents(id)
        end
        -- Further behind in line it is passed over when its turn comes.
        if not standing and call('LINDEX', key('line:', lane), 0) == id then
            call('LPOP', key('line:', lane))
        end
        for _, where in ipairs({ 'ready:', 'suspects:', 'later:' }) do
            call('ZREM', key(where, lane), id)
        end
    else
        if state == DEAD then
            call('ZREM', key('dead_ids'), id)
        end
        local last = last_attempt(standing)
        if last ~= '' then
            add_attempt(id, last)
        end
    end
    if lane then
        tally_move(state, to, lane, 1)
    end
    return true
end

local function lane_of_all(worker)
    if lanes[worker] == nil then
        local lane = call('HGET', key('lane_of'), worker)
        lanes[worker] = lane and lane ~= '' and lane
    end
    return lanes[worker]
end

-- Counts jobs that ran, by their leases, and come into another state. Where the server has evicted how one stood, the job itself
-- says its lane.
local function count_those_that_ran(worker, freed, to)
    local lane = lane_of_all(worker)
    if lane then
        tally_move(RUNNING, to, lane, #freed)
        return
    end
    local standings = {}
    for index = 1, #freed do
        standings[index] = STANDING .. freed[index]:sub(1, ID)
    end
    for index, before in ipairs(get_all(standings)) do
        local _, lane
        if before then
            lane = lane_it_runs_in(before)
        else
            _, lane = rank_and_lane(freed[index]:sub(1, ID))
        end
        if lane then
            tally_move(RUNNING, to, lane, 1)
        end
    end
end

-- The leases in ARGV whose jobs have as many steps as they must: 1 or 0 for each.
local function have_steps(first, last, steps)
    local have = {}
    for index = first, last do
        local recorded = call('GETRANGE', COUNTS .. ARGV[index]:sub(1, ID), 4, 11)
        have[#have + 1] = (recorded ~= '' and recorded or NO_STEPS) == steps and 1 or 0
    end
    return have
end

-- For each of the leases in ARGV 1 or 0: whether its job may be settled, and comes to the state `to`. If so, no worker holds it
-- any more.
local function set_free(hold, first, last, to)
    local kind, size = hold:sub(1, 1), last - first + 1
    local length = LENGTHS[kind]
    local have = #hold > length and have_steps(first, last, hold:sub(length + 1))
    local are, free = {}, {}
    if kind == 'S' then
        for index = 1, size do
            are[index] = (not have or have[index] == 1) and found(hold, ARGV[first + index - 1], to) and 1 or 0
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
    count_those_that_ran(worker, free, to)
    return are
end

-- Lets a job wait again.
local function wait_again(id, where, time, attempt, standing)
    if attempt ~= '' then
        add_attempt(id, attempt)
    else
        -- It was not started, or is tried again by hand.
        local job = with_more(id)
        local expires = job and expiry(job)
        if expires then
            call('ZADD', key('expiring'), time + expires, id)
        end
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

-- Lets jobs be found by their ids as dead.
local function index_dead(ids)
    local scored = {}
    for at = 1, #ids, ID do
        scored[#scored + 1], scored[#scored + 2] = 0, ids:sub(at, at + ID - 1)
    end
    call_all('ZADD', key('dead_ids'), scored)
end

-- Lets jobs on that wait for these, which have ended.
local function let_on(ids, state, time)
    local ended = {}
    for index = 1, #ids, ID do
        ended[#ended + 1] = ids:sub(index, index + ID - 1)
    end
    local released, cancelled = release(ended, state, time)
    if #released > 0 then
        has_let_on = true
        notify(released, cancelled, true, false, false, EVERYBODY)
    end
end

local at = 2
while at <= #ARGV do
    local hold, where, time, size, ids = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3]), ARGV[at + 4]
    local ends = where == 'finished' or where == 'dead'
    local leases, standings, attempts = at + 4, at + 5 + size, at + 4 + 3 * size
    local free, written, some = set_free(hold, leases + 1, leases + size, ARGV[standings + 1]:byte()), 0, {}
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
    if where == 'dead' and written > 0 then
        index_dead(ids)
    end
    if ends and written > 0 then
        let_on(ids, ARGV[standings + 1]:byte(), tonumber(time))
    end
    at = attempts + (ends and 1 or size + 1)
end
write_tallies()
notify(changed, over, work)
if has_let_on then
    return { 1, answer }
end
return all_written and 1 or answer
