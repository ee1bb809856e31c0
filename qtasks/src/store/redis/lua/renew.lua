-- ARGV from 2: the worker, its beat, and the newest format that it knows.
-- Gives the time of the server, in seconds and microseconds, and the leases that the worker holds; or only the format, where
-- that is newer.

local format = tonumber(call('GET', KEYS[1] .. 'format') or 0)
if format and format > tonumber(ARGV[4]) then
    return format
end
insist('HSET', key('beats'), ARGV[2], ARGV[3])
local seconds, microseconds = unpack(call('TIME'))
return { seconds, microseconds, call('SMEMBERS', key('held:', ARGV[2])) }
