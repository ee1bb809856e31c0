-- Jobs that wait for others: of each a set of the ones that it waits for, and of each of these a set of those that wait for it, with
-- `1` behind an id where the job runs also after one that does not end well. `awaited` has the ids of all that others wait for, so that
-- the ends of other jobs cost no more than a look at whether it is there.

-- How a job stands that waits for so many others, and is due then.
local function stands_after(parents, due)
    local before = string.char(WAITING, AFTER) .. NEVER_STARTED .. struct.pack('>I4', parents)
    return before .. string.rep('\0', 16) .. struct.pack('>i8', due) .. struct.pack('>BI4', 255, 0)
end

local function text_of(id)
    local hex = id:gsub('.', function(byte)
        return string.format('%02x', byte:byte())
    end)
    return hex:gsub('(' .. ('.'):rep(8) .. ')(....)(....)(....)', '%1-%2-%3-%4-', 1)
end

-- Why a job is cancelled that waited for one which has ended so; nothing if it is not.
local function cancels(parent, state, runs)
    if state ~= DONE and not runs then
        return text_of(parent) .. ' is ' .. (state == DEAD and 'dead' or 'cancelled')
    end
end

-- Forgets what a job waits for.
local function forget_parents(id)
    for _, parent in ipairs(call('SMEMBERS', key('w:', id))) do
        call('SREM', key('a:', parent), id .. '0', id .. '1')
        if call('EXISTS', key('a:', parent)) == 0 then
            call('SREM', key('awaited'), parent)
        end
    end
    call('UNLINK', key('w:', id))
end

-- Ends a job as cancelled that waits and never started.
local function cancel(id, lane, time, reason)
    local before = string.char(CANCELLED, 0) .. string.rep('\0', 24)
    call('SET', STANDING .. id, before .. struct.pack('>i8', time) .. struct.pack('>BI4', 255, 0) .. reason)
    call('ZADD', key('finished'), time, id)
    if lane then
        tally_move(WAITING, CANCELLED, lane, 1)
    end
end

-- What the ends of jobs, which came to this state at this time, mean for those that wait for them, and for those that wait for the ones
-- that are cancelled so. Gives the ids of the jobs that have changed, and of those among them that have ended.
local function release(ended, state, time)
    local changed, over, next = {}, {}, {}
    if call('EXISTS', key('awaited')) == 0 then
        return changed, over
    end
    local function add(ids, state)
        for index, is_awaited in ipairs(are_in(key('awaited'), ids)) do
            if is_awaited == 1 then
                next[#next + 1] = { ids[index], state }
            end
        end
    end
    add(ended, state)
    local at = 1
    while next[at] do
        local parent, state = unpack(next[at])
        for _, member in ipairs(call('SMEMBERS', key('a:', parent))) do
            local id, runs = member:sub(1, ID), member:sub(ID + 1) == '1'
            local job, standing = unpack(call('MGET', JOB .. id, STANDING .. id))
            local removed = call('SREM', key('w:', id), parent)
            if job and waits_for_others(standing) then
                local lane, reason = lane_of(job, id), cancels(parent, state, runs)
                local parents, due = struct.unpack('>I4', standing, 7) - removed, due_or_ended(standing)
                if reason then
                    cancel(id, lane, time, reason)
                    forget_parents(id)
                    over[#over + 1] = id
                    add({ id }, CANCELLED)
                elseif parents > 0 then
                    call('SET', STANDING .. id, stands_after(parents, due))
                else
                    put(id, job, NEW, lane, math.max(due, time))
                end
                changed[#changed + 1] = id
            end
        end
        call('UNLINK', key('a:', parent))
        call('SREM', key('awaited'), parent)
        at = at + 1
    end
    return changed, over
end
