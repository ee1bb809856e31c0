-- Gives of each worker that holds leases or is known otherwise: the worker, what stands of it in `beats`, and 1 if it holds
-- leases.

local answer, known = {}, call('HGETALL', key('beats'))
for index = 1, #known, 2 do
    local worker, beat = known[index], known[index + 1]
    local holds = call('EXISTS', key('held:', worker))
    if beat == '' and holds == 0 then
        -- Only its leases made this worker known: it never renewed.
        forget_worker(worker)
    else
        local count = #answer
        answer[count + 1], answer[count + 2], answer[count + 3] = worker, beat, holds
    end
end
return answer
