-- ARGV from 2: the worker, and how many jobs.
-- Gives 1 if jobs wait again that the worker held, and of each job that it holds the id, the job, how it stands, and its
-- counts.

local worker, limit = ARGV[2], tonumber(ARGV[3])
local answer = { 0 }
for _, lease in ipairs(call('SMEMBERS', key('held:', worker))) do
    local count = #answer
    if count > 4 * limit then
        break
    end
    local id = lease:sub(1, ID)
    local job = call('MGET', JOB .. id, STANDING .. id, COUNTS .. id)
    if job[1] and job[2] then
        answer[count + 1], answer[count + 2], answer[count + 3], answer[count + 4] = id, unpack(job)
    else
        -- The server has evicted the job, or how it stood, or an operator has deleted that.
        call('SREM', key('held:', worker), lease)
        if job[1] then
            local rank, lane = rank_and_lane(id)
            wait('ready:', lane, { rank, id })
            tally_move(RUNNING, WAITING, lane, 1)
            answer[1] = 1
        else
            if job[2] then
                tally(RUNNING, lane_it_runs_in(job[2]), -1)
            end
            delete(id)
        end
    end
end
write_tallies()
notify({}, {}, answer[1] == 1)
return answer
