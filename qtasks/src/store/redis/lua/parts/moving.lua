-- How jobs are moved that wait and never started.

local NEVER_STARTED = '\0\0\0\0'
-- How a job stands that waits for the first time, but for when it is due.
local NEW = string.rep('\0', 34) .. struct.pack('>BI4', 255, 0)

-- Stands among the flags of a job that waits for others; how many these are stands in place of the worker.
local AFTER = 4

-- Whether a job waits for others, by how it stands.
local function waits_for_others(standing)
    return standing and standing:byte() == WAITING and standing:byte(2) >= AFTER
end

-- Whether a job waits and never started, by how it stands.
local function never_started(standing)
    return not standing or standing:byte() == WAITING and standing:sub(3, 6) == NEVER_STARTED
end

-- Takes a job from where it waits.
local function take_out(id, lane, standing)
    -- Further behind in line it is passed over when its turn comes: how it stands says that it is not there.
    if not standing and call('LINDEX', key('line:', lane), 0) == id then
        call('LPOP', key('line:', lane))
    end
    for _, where in ipairs({ 'ready:', 'suspects:', 'later:' }) do
        call('ZREM', key(where, lane), id)
    end
end

-- Has a job wait with these bytes, in this lane and until this time; for the same others as before, if it waits for some.
local function put(id, job, standing, lane, due)
    call('SET', JOB .. id, job)
    standing = standing or NEW
    call('SET', STANDING .. id, standing:sub(1, 26) .. struct.pack('>i8', due) .. standing:sub(35))
    if waits_for_others(standing) then
        return
    end
    -- The next lease lets it in among the others, if it is due then.
    wait('later:', lane, { due, id })
    local expires = expiry(job)
    if expires then
        call('ZADD', key('expiring'), due + expires, id)
    end
end
