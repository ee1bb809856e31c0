-- ARGV from 2: the time, and at how many jobs to look that may have expired.
-- Gives how many were looked at; and of each job that has expired the id and its three values. A job that cannot expire any more is not
-- looked at again.

local AGAIN = 1000
local now, limit = tonumber(ARGV[2]), tonumber(ARGV[3])
local ids = call('ZRANGEBYSCORE', key('expiring'), '-inf', now, 'LIMIT', 0, limit)
local expired = {}

-- When to look again at a job; nothing where it cannot expire, and no later than now where it has.
local function look(id, job, standing)
    local expires = job and expiry(job)
    local state = standing and standing:byte() or WAITING
    if not expires or state > RUNNING or waits_for_others(standing) or call('EXISTS', key('h:', id)) == 1 then
        return
    end
    if state == RUNNING then
        -- It may be given back before it has started.
        return now + AGAIN
    end
    return (standing and due_or_ended(standing) or struct.unpack('>i8', job, 3)) + expires
end

begin_though_full()
for _, id in ipairs(ids) do
    local values = call('MGET', JOB .. id, STANDING .. id, COUNTS .. id)
    local at = look(id, values[1], values[2])
    if not at then
        call('ZREM', key('expiring'), id)
    elseif at > now then
        call('ZADD', key('expiring'), at, id)
    else
        expired[#expired + 1] = id
        for index = 1, 3 do
            expired[#expired + 1] = values[index]
        end
    end
end
return { #ids, expired }
