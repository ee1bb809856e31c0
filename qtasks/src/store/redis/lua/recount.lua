-- Counts all jobs anew and mends the counts; gives how many lanes were wrong.

-- How many ids are read at a time.
local SOME = 1000

local exact, unseen = {}, {}
local function see_all()
    local jobs, standings = heads(JOB, unseen, HEAD), heads(STANDING, unseen, 1)
    for index, id in ipairs(unseen) do
        if jobs[index] then
            local field = (standings[index] and standings[index]:byte() or WAITING) .. lane_of(jobs[index], id)
            exact[field] = (exact[field] or 0) + 1
        end
    end
    unseen = {}
end

local function see(id)
    unseen[#unseen + 1] = id
    if #unseen == READ then
        see_all()
    end
end

-- A cursor over ids, by a function that gives the next ones behind so many, of which the last is known.
local function new_cursor(read)
    local cursor = { ids = {}, index = 0, count = 0, read = read }
    function cursor.advance()
        cursor.index = cursor.index + 1
        if cursor.index > #cursor.ids and not cursor.is_last then
            cursor.ids, cursor.index = cursor.read(cursor.count, cursor.id), 1
            cursor.count, cursor.is_last = cursor.count + #cursor.ids, #cursor.ids < SOME
        end
        cursor.id = cursor.ids[cursor.index]
    end
    cursor.advance()
    return cursor
end

local list = new_cursor(function(count)
    return call('LRANGE', key('ids'), count, count + SOME - 1)
end)
local set = new_cursor(function(_, last)
    return call('ZRANGEBYLEX', key('jobs'), last and '(' .. last or '-', '+', 'LIMIT', 0, SOME)
end)
-- A job may stand in both.
while list.id or set.id do
    local is_in_both = list.id == set.id
    if list.id and (is_in_both or not set.id or is_before(list.id, set.id)) then
        see(list.id)
        list.advance()
        if is_in_both then
            set.advance()
        end
    else
        see(set.id)
        set.advance()
    end
end
see_all()

begin_though_full()
local kept, wrong, lanes = call('HGETALL', key('counts')), {}, 0
local function mend(field, is, was)
    if is == was then
        return
    end
    if is == 0 then
        call('HDEL', key('counts'), field)
    else
        call('HSET', key('counts'), field, is)
    end
    local lane = field:sub(2)
    lanes = lanes + (wrong[lane] and 0 or 1)
    wrong[lane] = true
end
for index = 1, #kept, 2 do
    local field = kept[index]
    mend(field, exact[field] or 0, tonumber(kept[index + 1]))
    exact[field] = nil
end
for field, jobs in pairs(exact) do
    mend(field, jobs, 0)
end
return lanes
