-- Gives of each worker that holds leases or is known otherwise: the worker, what stands of it in `beats`, and 1 if it holds
-- leases.

-- Programs of format 2 that still run keep their workers here, each with a time that every renewal moves.
local old = call('ZRANGE', key('workers'), 0, -1, 'WITHSCORES')
for index = 1, #old, 2 do
    local time = tonumber(old[index + 1])
    insist('HSET', key('beats'), old[index], time > 0 and string.format('%.0f', time) or '')
end

local answer, known = {}, call('HGETALL', key('beats'))
for index = 1, #known, 2 do
    local worker, beat = known[index], known[index + 1]
    local holds = call('EXISTS', key('held:', worker))
    if beat == '' and holds == 0 then
        -- Only its leases made this worker known: it never renewed.
        call('HDEL', key('beats'), worker)
    else
        local count = #answer
        answer[count + 1], answer[count + 2], answer[count + 3] = worker, beat, holds
    end
end
return answer
