-- ARGV from 2: the job. Gives its attempts that have ended; the one that the job has ended with stands with the outcome.

local standing = call('GET', STANDING .. ARGV[2])
local last = standing and last_attempt(standing) or ''
local answer = kept_attempts(ARGV[2], last ~= '' and 1 or 0)
if last ~= '' then
    answer[#answer + 1] = with_steps(ARGV[2], last)
end
return answer
