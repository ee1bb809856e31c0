-- Takes over some jobs of a store of format 2 or 3, as if they came now; gives whether there may be more.

-- How many jobs are taken over at a time.
local SOME = 1000

local at = tonumber(call('GET', key('taken_over')) or nil)
if not at then
    return 0
end
begin_though_full()
local old_ids, old_jobs = key('of_old:', 'ids'), key('of_old:', 'jobs')
local ids = call('LRANGE', old_ids, at, at + SOME - 1)
if #ids == 0 then
    local listed = call('LLEN', old_ids)
    ids = call('ZRANGE', old_jobs, at - listed, at - listed + SOME - 1)
end
if #ids == 0 then
    call('UNLINK', old_ids, old_jobs, key('taken_over'))
    return 0
end

-- Where the jobs stand from now on: in the line of a lane, or in sets, each score before its id.
local all, lines, sets = {}, {}, {}
local function stand(where, lane, score, id)
    local set = sets[where .. lane] or { where = where, lane = lane, scored = {} }
    sets[where .. lane] = set
    set.scored[#set.scored + 1], set.scored[#set.scored + 2] = score, id
end

-- Takes over a job that never ran.
local function take_over_new(id, rank, due, enqueued, lane)
    if due > enqueued then
        stand('later:', lane, due, id)
        return
    end
    reach_to(due)
    if rank ~= USUAL then
        stand('ready:', lane, rank, id)
        return
    end
    lines[lane] = lines[lane] or {}
    lines[lane][#lines[lane] + 1] = id
end

-- What is known of a suspect of format 2: nothing was kept of what it had survived, of its losses, and of when it was leased.
local UNKNOWN = string.rep('\0', 12) .. '\128' .. string.rep('\0', 7)

-- Takes over how a job stands that has run or was called off.
local function take_over_standing(id, standing, lane)
    call('RENAME', KEYS[1] .. 'p:' .. id, STANDING .. id)
    local state = standing:byte()
    if is_suspect(standing) and #standing == 39 and (state == WAITING or state == RUNNING) then
        call('APPEND', STANDING .. id, UNKNOWN)
    end
    if state == WAITING then
        stand('later:', lane, due_or_ended(standing), id)
    elseif state == RUNNING then
        call('APPEND', STANDING .. id, lane)
        local worker = standing:sub(7, 22)
        call('SADD', key('held:', worker), id .. standing:sub(3, 6))
        call('HSETNX', key('beats'), worker, '')
    else
        stand(state == DEAD and 'dead' or 'finished', '', due_or_ended(standing), id)
        if state == DEAD then
            stand('dead_ids', '', 0, id)
        end
    end
    return state
end

-- What else there may be of a job that has run.
local REST = { 'c:', 's:', 'm:', 'n:', 'h:' }
local function take_over_rest(id)
    local keys = {}
    for index, kind in ipairs(REST) do
        keys[index] = KEYS[1] .. kind .. id
    end
    if call('EXISTS', unpack(keys)) == 0 then
        return
    end
    for index, kind in ipairs(REST) do
        if call('EXISTS', keys[index]) == 1 then
            call('RENAME', keys[index], key(kind, id))
        end
    end
end

local function take_over(id, head, standing)
    local rank, due, enqueued = struct.unpack('>hi8i8', head)
    call('RENAME', KEYS[1] .. 'j:' .. id, JOB .. id)
    local lane, state = lane_of(head, id), WAITING
    if standing then
        state = take_over_standing(id, standing, lane)
        take_over_rest(id)
    else
        take_over_new(id, rank, due, enqueued, lane)
    end
    all[#all + 1] = id
    tally(state, lane, 1)
end

local taken = {}
for from = 1, #ids, READ do
    local some = { unpack(ids, from, math.min(from + READ - 1, #ids)) }
    local jobs, standings = heads(KEYS[1] .. 'j:', some, HEAD), heads(KEYS[1] .. 'p:', some, 59)
    for index, id in ipairs(some) do
        if jobs[index] and not taken[id] then
            taken[id] = true
            take_over(id, jobs[index], standings[index])
        end
    end
end
if #all > 0 then
    append(key('ids'), key('jobs'), 0, all, 1, #all)
end
for lane, in_line in pairs(lines) do
    append(key('line:', lane), key('ready:', lane), USUAL, in_line, 1, #in_line)
    call('SADD', key('lanes'), lane)
end
for _, set in pairs(sets) do
    if set.lane == '' then
        call_all('ZADD', key(set.where), set.scored)
    else
        wait(set.where, set.lane, set.scored)
    end
end
write_tallies()
call('SET', key('taken_over'), at + #ids)
return 1
