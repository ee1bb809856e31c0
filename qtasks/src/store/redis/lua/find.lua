-- ARGV from 2: 1 to begin with the highest id; the id that the search begins at, or nothing, and 1 if the ids up to it, from
-- the lowest on, are those up to and with it; the id that it ends at, or nothing; about how many ids of the list come before
-- the first one, or nothing; 1 for dead jobs alone; how many jobs are found, and how many looked at; and which jobs to find.
-- Gives the last id that was looked at, how many jobs were, where to go on in the list, whether there may be more, and of each
-- job the id, the job, how it stands, and its counts. More jobs are given than are to be found: those that may be among them.

local newest, start, with_start, finish = ARGV[2] == '1', ARGV[3], ARGV[4] == '1', ARGV[5]
local hint, dead_alone, limit, most_looks = tonumber(ARGV[6]), ARGV[7] == '1', tonumber(ARGV[8]), tonumber(ARGV[9])
-- As many ids are gone through, and as many bytes given, at a time.
local SOME, BYTES = 1000, 1048576

local at = 9
local function read()
    at = at + 1
    return ARGV[at]
end

-- Reads some values, or nothing where there are none.
local function read_all(read_one)
    local values, count = {}, tonumber(read())
    for index = 1, count do
        values[index] = read_one()
    end
    return count > 0 and values
end

local states, error_text = read(), read()
local after, before, ended_after, ended_before = tonumber(read()), tonumber(read()), tonumber(read()), tonumber(read())
local tasks, queues, words = read_all(read), read_all(read), read_all(read)
-- Of each argument where it is, and which values it may have.
local args = read_all(function()
    local path, values = read_all(read) or {}, read_all(read) or {}
    local name = path[#path]
    -- The text of an object has the name of its field in it, and that of an array no position.
    return { path = path, values = values, name = name and not tonumber(name) and '"' .. name .. '"' }
end)

-- Whether a text may have another one in it, in letters of either case. Letters beyond ASCII are not known here.
local function may_have(text, wanted)
    return text:find('[\128-\255]') or text:lower():find(wanted, 1, true)
end

local function is_named(names, name)
    for _, other in ipairs(names or { name }) do
        if other == name then
            return true
        end
    end
    return false
end

local known_lanes = {}
local function may_be_lane(lane)
    if known_lanes[lane] == nil then
        local length = lane:match('^%d+')
        local behind = #length + 1 + tonumber(length)
        local queue, task = lane:sub(#length + 2, behind), lane:sub(behind + 2)
        local may_be = is_named(tasks, task) and is_named(queues, queue)
        for _, word in ipairs(words or {}) do
            may_be = may_be and (may_have(task, word) or may_have(queue, word))
        end
        known_lanes[lane] = may_be and true or false
    end
    return known_lanes[lane]
end

-- Whether a value of JSON may be the one that is wanted. A double of Lua cannot tell all numbers apart.
local function may_be_value(value, wanted)
    local number = type(value) == 'number' and tonumber(wanted)
    if number then
        return number == value or math.abs(number - value) <= math.abs(value) * 1e-12
    end
    return value == wanted or tostring(value) == wanted or value == cjson.null and wanted == 'null'
end

local function may_have_arg(value, arg)
    for _, name in ipairs(arg.path) do
        local index = tonumber(name)
        if type(value) ~= 'table' then
            return false
        end
        value = value[name] == nil and index and value[index + 1] or value[name]
    end
    for _, wanted in ipairs(value == nil and {} or arg.values) do
        if may_be_value(value, wanted) then
            return true
        end
    end
    return false
end

local QUOTE = 34

-- Whether what begins at a place of a text may be one of the values.
local function may_begin(text, at, values)
    local is_text = text:byte(at) == QUOTE
    local digits = not is_text and text:match('^%-?%d[%d.eE+-]*', at)
    local number = digits and tonumber(digits)
    for _, wanted in ipairs(values) do
        local first = is_text and at + 1 or at
        if number and may_be_value(number, wanted) or text:sub(first, first + #wanted - 1) == wanted then
            return true
        end
    end
    return false
end

local COLON, SPACE = 58, 32

-- Whether a text may have a field with one of the values, whatever it is a field of.
local function may_have_field(text, from, name, values)
    local _, behind = text:find(name, from, true)
    while behind do
        -- Mostly nothing stands between them.
        local at = text:byte(behind + 1) == COLON and (text:byte(behind + 2) or 0) > SPACE and behind + 2
            or text:match('^%s*:%s*()', behind + 1)
        if at and may_begin(text, at, values) then
            return true
        end
        _, behind = text:find(name, behind + 1, true)
    end
    return false
end

-- Whether the arguments behind a place may be those wanted. Most are told apart without being read; texts with a backslash
-- say what they do in another way.
local function may_have_args(job, from)
    if not job:find('\\', from, true) then
        for _, arg in ipairs(args) do
            if arg.name and not may_have_field(job, from, arg.name, arg.values) then
                return false
            end
        end
    end
    local is_read, value = pcall(cjson.decode, job:sub(from))
    for _, arg in ipairs(is_read and args or {}) do
        if not may_have_arg(value, arg) then
            return false
        end
    end
    return true
end

local looks_at_lane = tasks or queues or words
local looks_at_job = looks_at_lane or args or after or before
local looks_at_standing = states ~= '' or error_text ~= '' or ended_after or ended_before

-- Whether a job may be found by itself.
local function may_be_job(id, job)
    local enqueued, _, low, high, length = struct.unpack('>i8c8BBI2', job, 11)
    return (not looks_at_lane or may_be_lane(lane_of(job, id)))
        and (not after or enqueued >= after)
        and (not before or enqueued <= before)
        and (not args or may_have_args(job, 31 + length + low + 256 * high))
end

-- Whether a job that has ended may be found by the text of its error or reason.
local function may_have_error(id)
    local standing = call('GET', STANDING .. id) or ''
    return #standing > 39 and may_have(standing:sub(40 + #last_attempt(standing)), error_text)
end

-- Whether a job may be found by how it stands.
local function may_stand(id, standing)
    local state = standing and standing:byte() or WAITING
    if states ~= '' and not states:find(state, 1, true) then
        return false
    end
    if ended_after or ended_before then
        local ended = state >= DONE and due_or_ended(standing)
        if not ended or ended < (ended_after or ended) or ended > (ended_before or ended) then
            return false
        end
    end
    return error_text == '' or may_have_error(id)
end

-- Whether an id comes before where the search begins, from the lowest on.
local function is_below(id)
    return is_before(id, start) or with_start and id == start
end

-- How many ids of the list come before where the search begins: looked for from where that was before.
local function count_below()
    local size = call('LLEN', key('ids'))
    if start == '' then
        return newest and size or 0
    end
    local low, high, near, step = 0, size, math.min(hint or newest and size or 0, size), 1
    local function is_below_at(index)
        return is_below(call('LINDEX', key('ids'), index))
    end
    if near < size and is_below_at(near) then
        low = near + 1
        while low + step <= high and is_below_at(low + step - 1) do
            low, step = low + step, step * 2
        end
        high = math.min(high, low + step)
    else
        high = near
        while high - step >= low and not is_below_at(high - step) do
            high, step = high - step, step * 2
        end
        low = math.max(low, high - step)
    end
    while low < high do
        local middle = math.floor((low + high) / 2)
        if is_below_at(middle) then
            low = middle + 1
        else
            high = middle
        end
    end
    return low
end

-- The ids in the list, in the order of the search, behind so many.
local function listed(below)
    if not newest then
        return call('LRANGE', key('ids'), below, below + SOME - 1)
    end
    local upwards, ids = below > 0 and call('LRANGE', key('ids'), math.max(below - SOME, 0), below - 1) or {}, {}
    for index = #upwards, 1, -1 do
        ids[#ids + 1] = upwards[index]
    end
    return ids
end

-- The ids in the set beside the list, or of the dead jobs, in the order of the search.
local function in_set()
    local set, last = key(dead_alone and 'dead_ids' or 'jobs'), finish ~= '' and '[' .. finish
    if newest then
        local first = start == '' and '+' or (with_start and '[' or '(') .. start
        return call('ZRANGE', set, first, last or '-', 'BYLEX', 'REV', 'LIMIT', 0, SOME)
    end
    local first = start == '' and '-' or (with_start and '(' or '[') .. start
    return call('ZRANGEBYLEX', set, first, last or '+', 'LIMIT', 0, SOME)
end

local function comes_first(id, other)
    if newest then
        id, other = other, id
    end
    return is_before(id, other)
end

-- Ids in the list and in the set, in their order, each once; how many of them were in the list; and whether there are more.
local function merged(list, set)
    local all, a, b = {}, 1, 1
    while #all < SOME and (list[a] or set[b]) do
        local id
        if list[a] and (not set[b] or comes_first(list[a], set[b])) then
            id, a = list[a], a + 1
        else
            a = list[a] == set[b] and a + 1 or a
            id, b = set[b], b + 1
        end
        if finish ~= '' and comes_first(finish, id) then
            return all, a - 1, false
        end
        all[#all + 1] = id
    end
    return all, a - 1, #all == SOME
end

local below = dead_alone and 0 or count_below()
local all, passed, may_be_more = merged(dead_alone and {} or listed(below), in_set())
local answer, looks, bytes, last = { false, 0, below + (newest and -passed or passed), 0 }, 0, 0, false

-- Adds a job to the answer, if it is there.
local function give(id)
    local job, standing, counts = unpack(call('MGET', JOB .. id, STANDING .. id, COUNTS .. id))
    if job then
        local count = #answer
        answer[count + 1], answer[count + 2], answer[count + 3], answer[count + 4] = id, job, standing, counts
        bytes = bytes + #job + (standing and #standing or 0)
    end
    return job
end

-- Looks at a job; gives whether it is there, as far as that is known.
local function look(id, job, standing)
    if looks_at_job and not job then
        return false
    end
    local may_be = (not looks_at_job or may_be_job(id, job)) and (not looks_at_standing or may_stand(id, standing))
    return not may_be or give(id)
end

local jobs, standings = {}, {}
for index, id in ipairs(all) do
    if looks == most_looks or #answer >= 4 + 4 * limit or bytes >= BYTES then
        may_be_more = true
        break
    end
    local at = (index - 1) % READ + 1
    if at == 1 and (looks_at_job or looks_at_standing) then
        local some = { unpack(all, index, math.min(index + READ - 1, #all)) }
        are_large[JOB] = are_large[JOB] and not args
        jobs = looks_at_job and heads(JOB, some, HEAD)
        standings = looks_at_standing and heads(STANDING, some, 34)
    end
    last = id
    looks = looks + (look(id, jobs and jobs[at], standings and standings[at]) and 1 or 0)
end
answer[1], answer[2], answer[4] = last, looks, may_be_more and 1 or 0
return answer
