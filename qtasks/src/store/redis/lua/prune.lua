-- ARGV from 2: before when finished jobs have ended, and dead ones; and how many. Gives how many were looked at, and how
-- many deleted.

local limit, looked, gone, lanes = tonumber(ARGV[4]), 0, {}, {}
local STATES = { finished = { [DONE] = true, [CANCELLED] = true }, dead = { [DEAD] = true } }

local before_all = tonumber(ARGV[2])

-- Lets go of the key of a job that it has taken last, unless it is held for a time still.
local function let_key_go(id)
    local job = with_more(id)
    local name = job and key_of(job)
    if not name then
        return
    end
    local holder, until_ = holder_of(name)
    if holder == id and until_ < before_all then
        call('HDEL', key('keys'), name)
    end
end

-- Deletes a job, unless it has run again since.
local function prune(id, where, before)
    local standing = call('GETRANGE', STANDING .. id, 0, 33)
    local state = standing:byte()
    if STATES[where][state] and due_or_ended(standing) < before then
        local _, lane = rank_and_lane(id)
        if lane then
            tally(state, lane, -1)
            lanes[lane] = true
        end
        if state == DEAD then
            call('ZREM', key('dead_ids'), id)
        end
        let_key_go(id)
        if with_more(id) then
            call('ZREM', key('expiring'), id)
        end
        delete(id)
        gone[#gone + 1] = id
    end
end

for index, where in ipairs({ 'finished', 'dead' }) do
    local before = ARGV[1 + index]
    while looked < limit do
        local ids, time = unpack(call('ZRANGEBYSCORE', key(where), '-inf', '(' .. before, 'WITHSCORES', 'LIMIT', 0, 1))
        if not ids then
            break
        end
        local count = math.min(#ids / ID, limit - looked)
        for each = 0, count - 1 do
            prune(ids:sub(each * ID + 1, (each + 1) * ID), where, tonumber(before))
        end
        looked = looked + count
        call('ZREM', key(where), ids)
        local rest = ids:sub(count * ID + 1)
        if rest ~= '' then
            -- One that has ended again, alone, stands at that time already.
            call('ZADD', key(where), 'NX', time, rest)
        end
    end
end

-- Lets go of the ids at the head of the list whose jobs are gone, and moves those that stay to the set beside it.
local function trim(latest)
    local ids, stay, count = call('LRANGE', key('ids'), 0, 4 * #gone), {}, 0
    for _, id in ipairs(ids) do
        if call('EXISTS', JOB .. id) == 1 then
            if is_before(latest, id) then
                break
            end
            stay[#stay + 1], stay[#stay + 2] = 0, id
        end
        count = count + 1
    end
    if count > 0 then
        call_all('ZADD', key('jobs'), stay)
        call('LPOP', key('ids'), count)
    end
end

-- Lets go of keys that were held for a time.
for _, name in ipairs(call('ZRANGEBYSCORE', key('key_times'), '-inf', '(' .. ARGV[2], 'LIMIT', 0, limit)) do
    local holder, until_, _, is_there = holder_of(name)
    if holder and not is_there and until_ < before_all then
        call('HDEL', key('keys'), name)
    end
    call('ZREM', key('key_times'), name)
end

write_tallies()
-- Lets go of lanes that have no jobs left.
for lane in pairs(lanes) do
    local left = 0
    for state = WAITING, CANCELLED do
        left = left + math.abs(tonumber(call('HGET', key('counts'), state .. lane) or 0))
    end
    for state = WAITING, left == 0 and CANCELLED or -1 do
        call('HDEL', key('counts'), state .. lane)
    end
end

if #gone > 0 then
    local latest = gone[1]
    for _, id in ipairs(gone) do
        latest = is_before(latest, id) and id or latest
    end
    call_all('ZREM', key('jobs'), gone)
    trim(latest)
end
return { looked, #gone }
