-- ARGV from 2: the worker, and until when it keeps its leases. Gives them: jobs and attempts in turn.

call('ZADD', KEYS[1] .. 'workers', ARGV[3], ARGV[2])
local answer = {}
for _, id in ipairs(call('SMEMBERS', KEYS[1] .. 'held:' .. ARGV[2])) do
    local attempt = call('GETRANGE', job_key .. id, 2, 5)
    if attempt ~= '' then
        answer[#answer + 1], answer[#answer + 2] = id, struct.unpack('>I4', attempt)
    end
end
return answer
