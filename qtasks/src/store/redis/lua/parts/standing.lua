-- How jobs stand, and the workers that hold them.

-- When a job is due that waits, or has ended, by how it stands.
local function due_or_ended(standing)
    return struct.unpack('>i8', standing, 27)
end

-- Whether a job is a suspect, by how it stands.
local function is_suspect(standing)
    return standing:byte(2) % 2 == 1
end

-- What a suspect has survived, by the bytes that say so.
local function survived(bytes)
    return #bytes == 8 and struct.unpack('>I8', bytes) or 0
end

-- The lane of a job that runs, by how it stands.
local function lane_it_runs_in(standing)
    return standing:sub(is_suspect(standing) and 60 or 40)
end

-- The attempt with which a job has ended, by how it stands, or nothing.
local function last_attempt(standing)
    local behind = is_suspect(standing) and 59 or 39
    return standing:sub(behind + 1, behind + struct.unpack('>I4', standing, 36))
end

-- Of the attempts of a job so many of the first and of the last are kept.
local FIRST_ATTEMPTS, LAST_ATTEMPTS = 10, 90

-- The attempts of a job that are kept, but for as many of the last as there are `besides`.
local function kept_attempts(id, besides)
    local history = key('h:', id)
    local size, last = call('LLEN', history), LAST_ATTEMPTS - besides
    if size <= FIRST_ATTEMPTS + last then
        return call('LRANGE', history, 0, -1)
    end
    local kept = call('LRANGE', history, 0, FIRST_ATTEMPTS - 1)
    for _, attempt in ipairs(call('LRANGE', history, -last, -1)) do
        kept[#kept + 1] = attempt
    end
    return kept
end

-- No steps, as the counts of a job say it.
local NO_STEPS = string.rep('\0', 8)

-- An attempt that has ended, with how many steps there are: at its end, and in the number of its ending a flag for that.
local function with_steps(id, attempt)
    local steps = call('GETRANGE', COUNTS .. id, 4, 11)
    local ending = string.char(attempt:byte(37) + 128)
    return attempt:sub(1, 36) .. ending .. attempt:sub(38) .. (steps ~= '' and steps or NO_STEPS)
end

-- Puts an attempt that has ended behind those that are kept.
local function add_attempt(id, attempt)
    local history = key('h:', id)
    local is_kept, size = pcall(insist, 'RPUSH', history, with_steps(id, attempt))
    -- If an operator has put another kind of value there, the job goes on all the same.
    if not is_kept or size <= FIRST_ATTEMPTS + LAST_ATTEMPTS then
        return
    end
    local first = call('LRANGE', history, 0, FIRST_ATTEMPTS - 1)
    call('LTRIM', history, -LAST_ATTEMPTS, -1)
    for index = FIRST_ATTEMPTS, 1, -1 do
        call('LPUSH', history, first[index])
    end
end

-- Deletes all that there is of a job.
local function delete(id)
    local keys = {}
    for index, kind in ipairs({ 'j:', 'p:', 'c:', 's:', 'm:', 'n:', 'h:' }) do
        keys[index] = key(kind, id)
    end
    call('UNLINK', unpack(keys))
end

-- The beat of a worker, or nothing: it never renewed, has left, or is not known.
local function beat_of(worker)
    local beat = call('HGET', key('beats'), worker)
    return beat and beat ~= LEFT and beat or ''
end

