-- ARGV from 2: the format 3. Makes it of a store of format 2. Where the script breaks off, the next try goes on from there.

if call('GET', key('format')) ~= '2' then
    return
end
begin_though_full()
-- What is known of a suspect: nothing was kept of what it had survived, of its losses, and of when it was leased.
local UNKNOWN = string.rep('\0', 12) .. '\128' .. string.rep('\0', 7)

-- Says of those that are suspects what is known.
local function add_what_is_known(ids)
    for index, standing in ipairs(get_all(keys_of(STANDING, ids))) do
        if standing and standing:byte(2) == 1 and #standing == 39 then
            call('APPEND', STANDING .. ids[index], UNKNOWN)
        end
    end
end

for _, lane in ipairs(call('SMEMBERS', key('lanes'))) do
    local later, suspects, scored = key('later:', lane), call('ZRANGE', key('suspects:', lane), 0, -1), {}
    for from = 0, call('ZCARD', later) - 1, MOST do
        add_what_is_known(call('ZRANGE', later, from, from + MOST - 1))
    end
    add_what_is_known(suspects)
    for _, id in ipairs(suspects) do
        local rank = rank_and_lane(id)
        if rank then
            scored[#scored + 1], scored[#scored + 2] = suspect_score(rank, 0), id
        end
    end
    call_all('ZADD', key('suspects:', lane), scored)
end
for _, worker in ipairs(call('ZRANGE', key('workers'), 0, -1)) do
    local ids = {}
    for index, lease in ipairs(call('SMEMBERS', key('held:', worker))) do
        ids[index] = lease:sub(1, ID)
    end
    if #ids > 0 then
        add_what_is_known(ids)
        call('HSETNX', key('beats'), worker, '')
    end
end
call('DEL', key('workers'))
call('SET', key('format'), ARGV[2])
