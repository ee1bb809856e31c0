-- ARGV from 2: the time.
-- Gives the counts, and in turn each lane with a job that is next in line and since when that is due, or else when it will be.

local now = tonumber(ARGV[2])
-- How many jobs are looked at in each place: some may have been cancelled, or moved, or run, and stand there still.
local LOOKS = 100

-- The rank of a job that waits and is no suspect, and when it is due.
local function waits(id, in_line)
    local job, standing = call('GETRANGE', JOB .. id, 0, 9), call('GETRANGE', STANDING .. id, 0, 33)
    if job == '' or in_line and standing ~= '' then
        return
    end
    local rank, due = struct.unpack('>hi8', job)
    if standing == '' then
        return rank, due
    end
    if standing:byte() == WAITING and not is_suspect(standing) then
        return rank, due_or_ended(standing)
    end
end

-- The job that is next in a lane, so far, and when one is due that is not due yet.
local next_one, next_due

-- Looks at a job; gives whether it is due.
local function see(id, in_line)
    local rank, due = waits(id, in_line)
    if not rank then
        return false
    end
    if due > now then
        next_due = math.min(next_due or due, due)
        return false
    end
    local first = next_one
    if not first or rank < first.rank or rank == first.rank and is_before(id, first.id) then
        next_one = { rank = rank, id = id, due = due }
    end
    return true
end

-- Looks at jobs in their order, up to the first one that is due.
local function see_first(in_line, id_at)
    for index = 0, LOOKS - 1 do
        local id = id_at(index)
        if not id or see(id, in_line) then
            return
        end
    end
end

local function see_lane(lane)
    see_first(true, function(index)
        return call('LINDEX', key('line:', lane), index)
    end)
    see_first(false, function(index)
        return call('ZRANGE', key('ready:', lane), index, index)[1]
    end)
    for _, id in ipairs(call('ZRANGEBYSCORE', key('later:', lane), '-inf', ARGV[2], 'LIMIT', 0, LOOKS)) do
        see(id)
    end
    if next_one or next_due then
        return
    end
    for index = 0, LOOKS - 1 do
        local id = call('ZRANGEBYSCORE', key('later:', lane), '(' .. ARGV[2], '+inf', 'LIMIT', index, 1)[1]
        if not id or waits(id) then
            next_due = id and select(2, waits(id))
            return
        end
    end
end

local next_in_line = {}
for _, lane in ipairs(call('SMEMBERS', key('lanes'))) do
    next_one, next_due = nil, nil
    see_lane(lane)
    if next_one or next_due then
        local count = #next_in_line
        next_in_line[count + 1], next_in_line[count + 2] = lane, next_one and next_one.due or next_due
    end
end
return { call('HGETALL', key('counts')), next_in_line }
