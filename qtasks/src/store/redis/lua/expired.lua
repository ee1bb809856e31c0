-- ARGV from 2: the time, and how many jobs. Gives of each the id and how it is.

local now, limit = tonumber(ARGV[2]), tonumber(ARGV[3])
-- A worker that is gone for an hour, in milliseconds, and holds nothing is forgotten.
local HOUR = 3600000

local answer = {}
for _, worker in ipairs(call('ZRANGEBYSCORE', KEYS[1] .. 'workers', '-inf', '(' .. ARGV[2])) do
    local ids = call('SMEMBERS', KEYS[1] .. 'held:' .. worker)
    for place = 1, math.min(#ids, limit - #answer / 2) do
        local job = call('GET', job_key .. ids[place])
        if job then
            answer[#answer + 1], answer[#answer + 2] = ids[place], job
        end
    end
    if #ids == 0 and ran_out(worker, now - HOUR) then
        call('ZREM', KEYS[1] .. 'workers', worker)
    end
end
return answer
