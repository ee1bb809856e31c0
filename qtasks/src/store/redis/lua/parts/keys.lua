-- The jobs that have taken keys last: under the name of the task and the key stand the id of the job, and until when it holds the key at
-- least, or 0. It holds the key until it has ended, and no end writes there.

-- The job that has taken a key last, until when it holds that, and whether it lives and is there.
local function holder_of(name)
    local taken = call('HGET', key('keys'), name)
    if not taken then
        return
    end
    local id = taken:sub(1, ID)
    local is_there, state = call('EXISTS', JOB .. id) == 1, call('GETRANGE', STANDING .. id, 0, 0)
    local lives = is_there and (state == '' and WAITING or state:byte()) <= RUNNING
    return id, struct.unpack('>i8', taken, ID + 1), lives, is_there
end

local function take_key(name, id, until_)
    insist('HSET', key('keys'), name, id .. struct.pack('>i8', until_))
    if until_ > 0 then
        call('ZADD', key('key_times'), until_, name)
    end
end

-- The jobs that live again by this call; how they stand does not say so yet.
local living_again = {}

-- Whether a job that had ended may live again: no other one lives that has its key. It takes the key then.
local function may_live_again(id)
    local job = with_more(id)
    local name = job and key_of(job)
    if not name then
        return true
    end
    local holder, until_, lives = holder_of(name)
    if holder and holder ~= id and (lives or living_again[holder]) then
        return false
    end
    take_key(name, id, until_ or 0)
    living_again[id] = true
    return true
end
