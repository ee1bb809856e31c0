-- ARGV from 2: the worker, how many jobs, whether one may be a suspect, the time, and the lanes.
-- Gives when the next job will be due, whether a suspect waits, and of each job the id and how it was before.

local worker, limit, seat, now = ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1', tonumber(ARGV[5])
-- As many jobs are read at a time: they may be large.
local READ = 32
-- So many jobs that are not due are passed over in a lane, when the clock of the worker is behind: what stands behind them
-- is for others.
local PASSED = 1000
-- Where more are in line than asked for, so many are looked at for one that is not due.
local AHEAD = 16

local next_due
local function see(due)
    if not next_due or due < next_due then
        next_due = due
    end
end

local lanes = {}
for from = 6, #ARGV, MOST do
    local to = math.min(from + MOST - 1, #ARGV)
    for place, waits in ipairs(call('SMISMEMBER', KEYS[1] .. 'lanes', unpack(ARGV, from, to))) do
        if waits == 1 then
            lanes[#lanes + 1] = ARGV[from + place - 1]
        end
    end
end
local page = math.min(math.max(math.ceil(limit / math.max(#lanes, 1)), 1), READ)

-- Lets jobs whose time has come stand in line with those that were due from the beginning.
local function promote(lane)
    local later = KEYS[1] .. 'later:' .. lane
    local first = call('ZRANGE', later, 0, 0, 'WITHSCORES')
    if first[2] and tonumber(first[2]) <= now then
        local due = call('ZRANGEBYSCORE', later, '-inf', now, 'LIMIT', 0, math.max(limit, 1000))
        local ready, suspects = {}, {}
        for _, id in ipairs(due) do
            local job = call('GETRANGE', job_key .. id, 1, 84)
            if job ~= '' then
                local scored = struct.unpack('B', job) % 2 == 1 and suspects or ready
                scored[#scored + 1] = struct.unpack('>h', job, 83)
                scored[#scored + 1] = id
            end
        end
        wait('ready', lane, ready)
        wait('suspects', lane, suspects)
        call_all('ZREM', later, due)
        reach_to(now)
        first = call('ZRANGEBYSCORE', later, '(' .. ARGV[5], '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    end
    if first[2] then
        see(tonumber(first[2]))
    end
end

local function read(ids)
    local keys = {}
    for place = 1, #ids, 2 do
        keys[#keys + 1] = job_key .. ids[place]
    end
    return #keys > 0 and call('MGET', unpack(keys)) or {}
end

-- Goes on to the next job of a front that is due.
local function advance(front)
    front.id = nil
    while not front.ended do
        if front.place > #front.page then
            front.ended = front.is_last
            if not front.ended then
                front.from = front.from + #front.page / 2
                front.page = call('ZRANGE', front.key, front.from, front.from + page - 1, 'WITHSCORES')
                front.jobs = read(front.page)
                front.place, front.is_last = 1, #front.page < 2 * page
            end
        else
            local id, rank = front.page[front.place], tonumber(front.page[front.place + 1])
            local job = front.jobs[(front.place + 1) / 2]
            front.place = front.place + 2
            local due = job and struct.unpack('>i8', job, 67)
            if not due then
                -- The server has evicted it, or somebody deleted it.
                front.taken[#front.taken + 1] = id
            elseif due <= now then
                front.id, front.rank, front.job = id, rank, job
                return
            else
                see(due)
                front.passed = front.passed + 1
                front.ended = front.passed == PASSED
            end
        end
    end
end

local function is_before(front, other)
    if front.rank ~= other.rank then
        return front.rank < other.rank
    end
    local a, b, c = struct.unpack('>I6I6I4', front.id)
    local d, e, f = struct.unpack('>I6I6I4', other.id)
    return a < d or a == d and (b < e or b == e and c < f)
end

local function most_urgent(fronts)
    local first
    for _, front in ipairs(fronts) do
        if front.id and (seat or not front.suspects) and (not first or is_before(front, first)) then
            first = front
        end
    end
    return first
end

local fronts, seen = {}, {}
for _, lane in ipairs(lanes) do
    if not seen[lane] then
        seen[lane] = true
        promote(lane)
        for _, where in ipairs({ 'ready', 'suspects' }) do
            local key = KEYS[1] .. where .. ':' .. lane
            local suspects = where == 'suspects'
            local front = { key = key, lane = lane, suspects = suspects, from = 0, page = {}, place = 1, passed = 0, taken = {} }
            advance(front)
            fronts[#fronts + 1] = front
        end
    end
end

local answer, held = { false, 0 }, {}
while #answer < 2 + 2 * limit do
    local front = most_urgent(fronts)
    if not front then
        break
    end
    local id, job = front.id, front.job
    local attempt = struct.unpack('>I4', job, 3) + 1
    call('SETRANGE', job_key .. id, 0, struct.pack('>B', RUNNING) .. job:sub(2, 2) .. struct.pack('>I4', attempt) .. worker)
    answer[#answer + 1], answer[#answer + 2] = id, job
    held[#held + 1] = id
    front.taken[#front.taken + 1] = id
    seat = seat and not front.suspects
    if #answer < 2 + 2 * limit or front.suspects then
        advance(front)
    else
        front.id = nil
    end
end

if #held > 0 then
    call_all('SADD', KEYS[1] .. 'held:' .. worker, held)
    call('ZADD', KEYS[1] .. 'workers', 'NX', LONG_AGO, worker)
end
local behind = #fronts > 0 and now < reach()
for _, front in ipairs(fronts) do
    if behind and not front.ended then
        local from = front.from + (front.place - 1) / 2
        for _, id in ipairs(call('ZRANGE', front.key, from, from + AHEAD - 1)) do
            local due = call('GETRANGE', job_key .. id, 66, 73)
            due = due ~= '' and struct.unpack('>i8', due)
            if due and due > now then
                see(due)
            end
        end
    end
    call_all('ZREM', front.key, front.taken)
    if front.suspects and front.id then
        answer[2] = 1
    end
    local places = { 'ready:', 'suspects:', 'later:' }
    for place, where in ipairs(places) do
        places[place] = KEYS[1] .. where .. front.lane
    end
    if front.suspects and call('EXISTS', unpack(places)) == 0 then
        call('SREM', KEYS[1] .. 'lanes', front.lane)
    end
end
answer[1] = next_due or false
return answer
