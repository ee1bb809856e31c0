-- How jobs stand, and those who hold them.

-- When a job is due that waits, or has ended, by how it stands.
local function due_or_ended(standing)
    return struct.unpack('>i8', standing, 27)
end

-- The attempt with which a job has ended, by how it stands, or nothing.
local function last_attempt(standing)
    return standing:sub(40, 39 + struct.unpack('>I4', standing, 36))
end

-- Deletes all that there is of a job.
local function delete(id)
    local keys = {}
    for place, kind in ipairs({ 'j:', 'p:', 'c:', 's:', 'm:', 'n:', 'h:' }) do
        keys[place] = key(kind, id)
    end
    call('UNLINK', unpack(keys))
end

-- Whether the leases of a worker have run out at a time.
local function ran_out(worker, now)
    local last = call('ZSCORE', key('workers'), worker)
    return not last or tonumber(last) < now
end

