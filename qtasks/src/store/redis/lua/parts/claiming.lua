-- How jobs with keys come to the server.

-- What a new job has besides what every job has, with the others that the old one comes after. These stand last in it.
local function with_same_after(more, job)
    local low, high, length = struct.unpack('>BBI2', job, 27)
    local after = job:sub(31 + length, 30 + length + low + 256 * high):match('[{,]("after":.*)}$')
    if not after or #more + #after + 1 > 65535 then
        return more
    end
    return more:sub(1, -2) .. ',' .. after .. '}'
end

-- Gives a job that waits, and never started, the arguments, the rank and the time of a new one.
local function replace(id, job, standing, new, due)
    local length, new_length = struct.unpack('>I2', job, 29), struct.unpack('>I2', new, 29)
    local lane = job:sub(31, 30 + length)
    take_out(id, lane, standing)
    local low, high = new:byte(27, 28)
    local args = 31 + new_length + low + 256 * high
    local more = with_same_after(new:sub(31 + new_length, args - 1), job)
    local of_more = string.char(#more % 256, math.floor(#more / 256))
    local bytes = new:sub(1, 2) .. struct.pack('>i8', due) .. job:sub(11, 18) .. new:sub(19, 26) .. of_more
        .. struct.pack('>I2', length) .. lane .. more .. new:sub(args)
    put(id, bytes, standing, lane, due)
end

-- Takes the keys of the jobs that stand in ARGV from `at`: how many they are; of each its id, the key, what becomes of a duplicate,
-- until when the key is held at least, the time, when it is due and at the latest if it replaces another one, and its bytes then.
-- Gives where the next values stand; the ids of those that are not to be added; these and the ids of their holders in turn; what is to be
-- done when the others are added; and, where one is refused, its id, that of the holder and nothing: then nothing is written.
local function claim(at)
    local first = at + 1
    local next, skip, joined = first + 8 * tonumber(ARGV[at]), nil, {}
    local writes, late, here, is_here = {}, {}, {}, {}
    for index = first, next - 1, 8 do
        local id, name, on_duplicate, until_, now = unpack(ARGV, index, index + 4)
        local due, latest, new = unpack(ARGV, index + 5, index + 7)
        if not is_here[id] and call('EXISTS', JOB .. id) == 0 then
            local holder, held_until, lives = here[name], 0, true
            if not holder then
                holder, held_until, lives = holder_of(name)
            end
            if not holder or holder == id or not lives and held_until <= tonumber(now) then
                writes[#writes + 1] = function()
                    take_key(name, id, tonumber(until_))
                end
                here[name], is_here[id] = id, true
            elseif on_duplicate == 'refuse' then
                return next, nil, nil, nil, { id, holder, '' }
            else
                skip = skip or {}
                skip[id] = true
                joined[#joined + 1], joined[#joined + 2] = id, holder
                if on_duplicate == 'replace' and lives then
                    -- Another job of the call may be the holder, or may have replaced it.
                    late[#late + 1] = function()
                        local bytes, stands = unpack(call('MGET', JOB .. holder, STANDING .. holder))
                        if never_started(stands) then
                            local enqueued = struct.unpack('>i8', bytes, 11)
                            local till = tonumber(due)
                            replace(holder, bytes, stands, new, latest ~= '' and math.min(till, enqueued + tonumber(latest)) or till)
                        end
                    end
                end
            end
        end
    end
    for _, write in ipairs(writes) do
        write()
    end
    return next, skip, joined, late
end

local function finish(late)
    for _, write in ipairs(late) do
        write()
    end
end

-- The ids of the holders among those that `claim` gave.
local function holders_of(joined)
    local holders = {}
    for index = 2, #joined, 2 do
        holders[#holders + 1] = joined[index]
    end
    return holders
end
