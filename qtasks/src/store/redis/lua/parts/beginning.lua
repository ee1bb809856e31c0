-- How jobs begin that come after others.

-- So many values stand for each such job: its id, when it is due, when it was enqueued, `1` where it runs also after one that does not
-- end well, the ids of those that must be there, and those of all that it comes after.
local OF_AFTER = 6

local function state_of(id)
    local standing = call('GETRANGE', STANDING .. id, 0, 0)
    if standing ~= '' then
        return standing:byte()
    end
    return call('EXISTS', JOB .. id) == 1 and WAITING or nil
end

local function each_id(ids, see)
    for at = 1, #ids, ID do
        see(ids:sub(at, at + ID - 1))
    end
end

-- Looks at the jobs that come after others and stand in ARGV from `at`: how many they are, and the values of each. Gives where the next
-- values stand; where in ARGV those of jobs stand that are not there yet; and, where one of the others is not there, the id of the job,
-- that of the other, and twice nothing.
local function begin(at)
    local next, begun, missing = at + 1 + OF_AFTER * tonumber(ARGV[at]), {}, nil
    for index = at + 1, next - 1, OF_AFTER do
        if call('EXISTS', JOB .. ARGV[index]) == 0 then
            begun[#begun + 1] = index
            each_id(ARGV[index + 4], function(parent)
                if not missing and call('EXISTS', JOB .. parent) == 0 then
                    missing = { ARGV[index], parent, '', '' }
                end
            end)
        end
    end
    return next, begun, missing
end

-- Has a job begin whose values stand in ARGV at `index`.
local function hold(index)
    local id, due, enqueued, runs, _, parents = unpack(ARGV, index, index + OF_AFTER - 1)
    local job, live, count, reason = call('GET', JOB .. id), {}, 0, nil
    each_id(parents, function(parent)
        local state = state_of(parent)
        if state and state > RUNNING then
            reason = reason or cancels(parent, state, runs == '1')
        elseif state and not live[parent] then
            live[parent], count = true, count + 1
        end
    end)
    local lane = lane_of(job, id)
    if reason then
        cancel(id, lane, tonumber(enqueued), reason)
    elseif count > 0 then
        for parent in pairs(live) do
            call('SADD', key('a:', parent), id .. (runs == '1' and '1' or '0'))
            call('SADD', key('w:', id), parent)
            call('SADD', key('awaited'), parent)
        end
        call('SET', STANDING .. id, stands_after(count, tonumber(due)))
    else
        put(id, job, NEW, lane, tonumber(due))
    end
end

-- Has the jobs begin that `begin` gave, but for those that were not added.
local function hold_all(begun, skip)
    for _, index in ipairs(begun) do
        if not (skip and skip[ARGV[index]]) then
            hold(index)
        end
    end
end
