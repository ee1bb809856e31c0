-- What few jobs have.

-- What there is of a job besides what every job has, by its bytes; nothing of most.
local function more_of(job)
    local low, high, length = struct.unpack('>BBI2', job, 27)
    local more = job:sub(31 + length, 30 + length + low + 256 * high)
    return more:sub(1, 1) == '{' and cjson.decode(more) or nil
end

-- How long after it was due a job is still started, in milliseconds; nothing if it does not expire.
local function expiry(job)
    local more = more_of(job)
    return more and more.expires
end

-- The name of the task of a job, by its bytes.
local function task_of(job)
    local lane = job:sub(31, 30 + struct.unpack('>I2', job, 29))
    local size = lane:match('^%d+')
    return lane:sub(#size + tonumber(size) + 3)
end

-- The first bytes of a job, with all in them that few jobs have; nothing of a job that has nothing of it.
local function with_more(id)
    local head = call('GETRANGE', JOB .. id, 0, 29)
    if head == '' then
        return
    end
    local low, high, length = struct.unpack('>BBI2', head, 27)
    return low + high > 0 and call('GETRANGE', JOB .. id, 0, 29 + length + low + 256 * high) or nil
end

-- Under what a job stands among the keys, by its bytes; nothing if it has no key.
local function key_of(job)
    local more = more_of(job)
    return more and more.key and task_of(job) .. ' ' .. more.key
end
