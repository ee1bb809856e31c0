-- ARGV from 2: where to begin, how many jobs, the state or -1, what the lane begins with, whether the task counts, and the
-- task.
-- Gives where to go on, if there may be more, and of each job the id and how it is.

local limit, state, lane_start, task = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], ARGV[6] == '1' and ARGV[7]
-- As many jobs are looked at, and as many bytes given, at a time.
local LOOKS, BYTES = 1000, 1048576

local function passes(job)
    if state >= 0 and struct.unpack('B', job) ~= state then
        return false
    end
    local lane = job:sub(110, 109 + struct.unpack('>I4', job, 102))
    if lane:sub(1, #lane_start) ~= lane_start then
        return false
    end
    local length = lane:match('^%d+')
    return not task or lane:sub(#length + tonumber(length) + 3) == task
end

local answer, bytes = { false }, 0
local ids = call('ZRANGEBYLEX', KEYS[1] .. 'jobs', ARGV[2], '+', 'LIMIT', 0, LOOKS)
for place, id in ipairs(ids) do
    local job = call('GET', job_key .. id)
    if job and passes(job) then
        answer[#answer + 1], answer[#answer + 2] = id, job
        bytes = bytes + #job
    end
    if #answer > 2 * limit then
        break
    end
    if bytes >= BYTES or place == LOOKS then
        answer[1] = id
        break
    end
end
return answer
