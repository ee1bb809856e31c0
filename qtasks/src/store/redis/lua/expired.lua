-- ARGV from 2: the time, and how many jobs. Gives of each the id, the job, how it stands, and its counts.

local now, limit = tonumber(ARGV[2]), tonumber(ARGV[3])
-- A worker that is gone for an hour, in milliseconds, and holds nothing is forgotten.
local HOUR = 3600000

local answer, found = {}, 0

-- What a worker holds that is gone.
local function take_over(worker, lease)
    local id = lease:sub(1, ID)
    local job = call('MGET', JOB .. id, STANDING .. id, COUNTS .. id)
    if job[1] and job[2] then
        local count = #answer
        answer[count + 1], answer[count + 2], answer[count + 3], answer[count + 4] = id, unpack(job)
        found = found + 1
        return
    end
    -- The server has evicted it, or how it stood, or somebody deleted that.
    call('SREM', key('held:', worker), lease)
    if job[1] then
        local rank, lane = rank_and_lane(id)
        wait('ready:', lane, { rank, id })
        tell({}, {}, true)
    else
        delete(id)
    end
end

for _, worker in ipairs(call('ZRANGEBYSCORE', key('workers'), '-inf', '(' .. ARGV[2])) do
    local leases = call('SMEMBERS', key('held:', worker))
    for _, lease in ipairs(leases) do
        if found == limit then
            break
        end
        take_over(worker, lease)
    end
    if #leases == 0 and ran_out(worker, now - HOUR) then
        call('ZREM', key('workers'), worker)
    end
end
return answer
