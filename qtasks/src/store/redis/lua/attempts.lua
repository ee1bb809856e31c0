-- ARGV from 2: the job. Gives its attempts that have ended; the last one stands in the job itself.

local answer = call('LRANGE', KEYS[1] .. 'h:' .. ARGV[2], 0, -1)
local job = call('GET', job_key .. ARGV[2])
if job then
    local lane, args = struct.unpack('>I4I4', job, 102)
    local last = job:sub(110 + lane + args, 109 + lane + args + struct.unpack('>I4', job, 76))
    if last ~= '' then
        answer[#answer + 1] = last
    end
end
return answer
