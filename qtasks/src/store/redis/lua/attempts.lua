-- ARGV from 2: the job. Gives its attempts that have ended; the one that the job has ended with stands with the outcome.

local answer = call('LRANGE', key('h:', ARGV[2]), 0, -1)
local standing = call('GET', STANDING .. ARGV[2])
local last = standing and last_attempt(standing) or ''
if last ~= '' then
    answer[#answer + 1] = last
end
return answer
