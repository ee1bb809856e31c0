-- How jobs come to the server.

-- Adds ids, in their order, to a list that is in it; where they do not come last, to a set beside it, each with a score.
local function append(list, set, score, values, first, last)
    local end_of_list = call('LINDEX', list, -1)
    if not end_of_list or is_before(end_of_list, values[first]) then
        return call_range('RPUSH', list, values, first, last)
    end
    local scored = {}
    for index = first, last do
        scored[#scored + 1], scored[#scored + 2] = score, values[index]
    end
    call_all('ZADD', set, scored)
end

-- Sets the keys that stand in ARGV, each before its job; gives the ids of those that were there, or are to be passed over, if any.
local function set_new(first, last, skip)
    local known = skip
    for from = first, last, MOST do
        local to = math.min(from + MOST - 1, last)
        if skip or call('MSETNX', unpack(ARGV, from, to)) == 0 then
            known = known or {}
            for index = from, to, 2 do
                local id = ARGV[index]:sub(-ID)
                if known[id] or call('SETNX', ARGV[index], ARGV[index + 1]) == 0 then
                    known[id] = true
                end
            end
        end
    end
    return known
end

-- Enqueues the jobs that stand in ARGV from `at` to `last`: the latest time at which one is due that is so already, and how
-- many they are; their ids in order; each key and job in turn; and for each lane where in it, its name, how many jobs, or 0
-- for all, and their ids in order, or for those that are not due or not of the usual rank each rank or time and id in turn. In
-- the lane without a name, `expiring`, stand the times at which jobs expire. Jobs whose ids are in `skip` are left out.
local function enqueue(at, last, skip)
    local count = tonumber(ARGV[at + 1])
    local jobs, lanes = at + 2 + count, at + 2 + 3 * count
    if ARGV[at] ~= '' then
        reach_to(tonumber(ARGV[at]))
    end
    local known = set_new(jobs, lanes - 1, skip)
    -- Where new ones of the values stand, of which each `width` end in an id.
    local function new(first, size, width)
        local to = first + size * width - 1
        if not known then
            return ARGV, first, to
        end
        local values = {}
        for index = first, to, width do
            if not known[ARGV[index + width - 1]] then
                for each = index, index + width - 1 do
                    values[#values + 1] = ARGV[each]
                end
            end
        end
        return values, 1, #values
    end
    local values, first, to = new(at + 2, count, 1)
    if first <= to then
        append(key('ids'), key('jobs'), 0, values, first, to)
    end
    while lanes <= last do
        local where, lane, size = ARGV[lanes], ARGV[lanes + 1], tonumber(ARGV[lanes + 2])
        local width = (where == 'line:' or where == '') and 1 or 2
        -- Or it is for all of them.
        if size > 0 then
            values, first, to = new(lanes + 3, size, width)
        end
        if first <= to then
            if where == '' then
                -- They come after others, and are to stand elsewhere, if anywhere.
            elseif width == 1 then
                append(key('line:', lane), key('ready:', lane), USUAL, values, first, to)
            else
                call_range('ZADD', key(where, lane), values, first, to)
            end
            if lane ~= '' then
                call('SADD', key('lanes'), lane)
                tally(WAITING, lane, (to - first + 1) / width)
            end
        end
        lanes = lanes + 3 + size * width
    end
end

