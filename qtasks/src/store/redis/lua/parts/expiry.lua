-- How jobs expire.

-- How long after it was due a job is still started, in milliseconds; nothing if it does not expire.
local function expiry(job)
    local low, high, length = struct.unpack('>BBI2', job, 27)
    local more = job:sub(31 + length, 30 + length + low + 256 * high)
    if more:sub(1, 1) ~= '{' then
        return
    end
    return cjson.decode(more).expires
end
