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

-- So many of the first bytes of a job have its lane in them, but for a very long one.
local HEAD = 158

-- The lane in the first bytes of a job.
local function lane_of(head, id)
    local length = struct.unpack('>I2', head, 29)
    local lane = head:sub(31, 30 + length)
    return #lane == length and lane or call('GETRANGE', JOB .. id, 30, 29 + length)
end

-- The rank and the lane of a job, if it is there.
local function rank_and_lane(id)
    local head = call('GETRANGE', JOB .. id, 0, HEAD - 1)
    if head ~= '' then
        return struct.unpack('>h', head), lane_of(head, id)
    end
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

