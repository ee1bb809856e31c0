-- ARGV from 2: the time.
-- Gives the lanes in which a job waits that is due.

local now = ARGV[2]
-- How many of the first jobs in each set are looked at: some may have been cancelled, or moved, or run, and stand there still.
local LOOKS = 100

local function one_waits(ids, in_line)
    for _, id in ipairs(ids) do
        if call('EXISTS', JOB .. id) == 1 then
            local standing = call('GETRANGE', STANDING .. id, 0, 0)
            if standing == '' or not in_line and struct.unpack('B', standing) == WAITING then
                return true
            end
        end
    end
    return false
end

local due = {}
for _, lane in ipairs(call('SMEMBERS', key('lanes'))) do
    if one_waits(call('LRANGE', key('line:', lane), 0, LOOKS - 1), true)
        or one_waits(call('ZRANGE', key('ready:', lane), 0, LOOKS - 1))
        or one_waits(call('ZRANGE', key('suspects:', lane), 0, LOOKS - 1))
        or one_waits(call('ZRANGEBYSCORE', key('later:', lane), '-inf', now, 'LIMIT', 0, LOOKS)) then
        due[#due + 1] = lane
    end
end
return due
