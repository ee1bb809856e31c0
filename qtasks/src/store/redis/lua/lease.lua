-- ARGV from 2: the worker, how many jobs, how one may be a suspect (0 not at all, 1 beside others, 2 alone), the time, and
-- the lanes.
-- Gives when the next job will be due, whether a suspect waits, whether to ask again for more, the ids of the jobs, the jobs,
-- and of each job that has run before: which one of them it is, how it stood, and its counts.

local worker, limit, suspects, now = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
-- How many jobs are read at a time: they may be large.
local READ = 32
-- How many jobs that are not due are passed over in a lane, when the clock of the worker is behind. The jobs behind them are
-- for other workers.
local PASSED = 1000
-- How many ids in line that do not wait any more are taken out of a lane at a time.
local USELESS = 4000
-- How many jobs whose time has come are let into a lane at a time.
local COME = 10000
-- Where more jobs are in line than asked for, how many of them are looked at for one that is not due.
local AHEAD = 16

local next_due
local function see(due)
    if not next_due or due < next_due then
        next_due = due
    end
end

local asked, lanes = {}, {}
for index = 6, #ARGV do
    asked[index - 5] = ARGV[index]
end
for index, waits in ipairs(are_in(key('lanes'), asked)) do
    if waits == 1 then
        lanes[#lanes + 1] = asked[index]
    end
end
local page = math.min(math.max(math.ceil(limit / math.max(#lanes, 1)), 1), READ)

-- Lets jobs whose time has come stand in line with those that were due from the beginning.
local function promote(lane)
    local later = key('later:', lane)
    local first = call('ZRANGE', later, 0, 0, 'WITHSCORES')
    if first[2] and tonumber(first[2]) <= now then
        local due = call('ZRANGEBYSCORE', later, '-inf', now, 'LIMIT', 0, COME)
        local ready, scored = {}, {}
        for _, id in ipairs(due) do
            local rank = call('GETRANGE', JOB .. id, 0, 1)
            if rank ~= '' then
                rank = struct.unpack('>h', rank)
                if call('GETRANGE', STANDING .. id, 1, 1) == '\1' then
                    local score = suspect_score(rank, survived(call('GETRANGE', STANDING .. id, 39, 46)))
                    scored[#scored + 1], scored[#scored + 2] = score, id
                else
                    ready[#ready + 1], ready[#ready + 2] = rank, id
                end
            end
        end
        wait('ready:', lane, ready)
        wait('suspects:', lane, scored)
        call_all('ZREM', later, due)
        reach_to(now)
        first = call('ZRANGE', later, 0, 0, 'WITHSCORES')
    end
    if first[2] then
        see(tonumber(first[2]))
    end
end

-- A cursor over jobs of a lane that wait: over the line, which is a list of jobs that never ran, or over a set of others.
local function new_cursor(where, lane)
    local cursor = { key = key(where, lane), lane = lane, from = 0, ids = {}, index = 1, out = {}, kept = {}, useless = 0, leased = 0 }
    cursor.in_line, cursor.suspects = where == 'line:', where == 'suspects:'
    return cursor
end

-- The ids from an index on, and their ranks, if they are not the usual ones, or the scores of suspects.
local function range(cursor, from, count)
    if cursor.in_line then
        return call('LRANGE', cursor.key, from, from + count - 1)
    end
    local ids, scores = {}, {}
    local scored = call('ZRANGE', cursor.key, from, from + count - 1, 'WITHSCORES')
    for index = 1, #scored, 2 do
        ids[#ids + 1], scores[#scores + 1] = scored[index], tonumber(scored[index + 1])
    end
    return ids, scores
end

local function turn_page(cursor)
    cursor.from = cursor.from + #cursor.ids
    local count = cursor.useless > 0 and READ or page
    cursor.ids, cursor.scores = range(cursor, cursor.from, count)
    cursor.index, cursor.is_last = 1, #cursor.ids < count
    if #cursor.ids > 0 then
        cursor.jobs, cursor.standings, cursor.counts = get_all(keys_of(JOB, cursor.ids)), {}, {}
        -- Hardly any job in line has been called off or moved; `start_new` finds those that this overlooks.
        if not cursor.in_line or call('EXISTS', STANDING .. cursor.ids[1]) == 1 then
            cursor.standings, cursor.counts = get_all(keys_of(STANDING, cursor.ids)), get_all(keys_of(COUNTS, cursor.ids))
        end
    end
end

-- When a job is due: by how it stands, if it has run, or else by itself.
local function due_of(job, standing)
    return standing and due_or_ended(standing) or struct.unpack('>i8', job, 3)
end

-- Whether a job can be leased, apart from its time. It cannot when the server has evicted it, an operator has deleted it, or
-- it was called off or moved while it stood in line.
local function is_leasable(cursor, job, standing)
    return job and not (standing and (cursor.in_line or standing:byte() ~= WAITING))
end

local ask_again = 0

-- Moves a cursor on to the next job that is due; to nothing, where there is none.
local function advance(cursor, behind)
    while not cursor.ended do
        local index = cursor.index
        if index > #cursor.ids then
            cursor.ended = cursor.is_last
            if not cursor.ended then
                turn_page(cursor)
            end
        else
            local id, job, standing = cursor.ids[index], cursor.jobs[index], cursor.standings[index]
            if not is_leasable(cursor, job, standing) then
                cursor.out[#cursor.out + 1], cursor.useless = id, cursor.useless + 1
                if cursor.useless == USELESS then
                    cursor.ended, ask_again = true, 1
                end
            elseif not behind or due_of(job, standing) <= now then
                cursor.at, cursor.score = index, cursor.scores and cursor.scores[index] or USUAL
                cursor.rank = cursor.suspects and struct.unpack('>h', job) or cursor.score
                cursor.index = index + 1
                return
            else
                see(due_of(job, standing))
                cursor.kept[#cursor.kept + 1] = id
                cursor.ended = #cursor.kept == PASSED
            end
            cursor.index = index + 1
        end
    end
    cursor.at = nil
end

-- Takes out the jobs that are leased, and ids that are of no use.
local function take_out(cursor)
    if not cursor.in_line then
        call_all('ZREM', cursor.key, cursor.out)
        return
    end
    -- All that stand before the job that the cursor has come to are leased, of no use, or kept.
    local count = cursor.from + (cursor.at or cursor.index) - 1
    if count > #cursor.kept then
        call('LPOP', cursor.key, count)
        local kept = {}
        for index = #cursor.kept, 1, -1 do
            kept[#kept + 1] = cursor.kept[index]
        end
        call_all('LPUSH', cursor.key, kept)
    end
end

local cursors, seen = {}, {}
-- Whether jobs wait beside a line.
local any_beside = false
for _, lane in ipairs(lanes) do
    if not seen[lane] then
        seen[lane] = true
        if call('EXISTS', key('ready:', lane), key('suspects:', lane), key('later:', lane)) > 0 then
            promote(lane)
            any_beside = true
            cursors[#cursors + 1], cursors[#cursors + 2] = new_cursor('ready:', lane), new_cursor('suspects:', lane)
        end
        -- A job that stands in line too was called off or moved there, so that it is taken from beside it first.
        cursors[#cursors + 1] = new_cursor('line:', lane)
    end
end
local behind = #cursors > 0 and now < reach()
for _, cursor in ipairs(cursors) do
    advance(cursor, behind)
end

-- Whether a cursor comes before another, by rank or score, and then by id.
local function is_less(cursor, other, by)
    if cursor[by] ~= other[by] then
        return cursor[by] < other[by]
    end
    return is_before(cursor.ids[cursor.at], other.ids[other.at])
end

-- The cursor at the one suspect that may be leased: of those that the cursors have come to, the first by score.
local seat
for _, cursor in ipairs(cursors) do
    if suspects > 0 and cursor.suspects and cursor.at and (not seat or is_less(cursor, seat, 'score')) then
        seat = cursor
    end
end

local function is_more_urgent(cursor, other)
    return is_less(cursor, other, 'rank')
end

-- The cursor at the most urgent job, and the next one.
local function most_urgent()
    local first, second
    for _, cursor in ipairs(cursors) do
        if cursor.at and (not cursor.suspects or cursor == seat) then
            if not first or is_more_urgent(cursor, first) then
                first, second = cursor, first
            elseif not second or is_more_urgent(cursor, second) then
                second = cursor
            end
        end
    end
    return first, second
end

-- The jobs that are leased, and of each that has run before: which one it is, how it stood, and its counts.
local ids, jobs, leases, before, leased = {}, {}, {}, {}, 0
-- How jobs stand from now on that are leased for the first time, and how the others do: each key before its value.
local new, again, values = {}, {}, 0
-- How a job stands that runs for the first time, up to its lane.
local NEW = struct.pack('>BBI4', RUNNING, 0, 1) .. worker .. struct.pack('>I4i8BI4', 0, 0, 255, 0)

local function lease_new(id, job, stands)
    new[values + 1], new[values + 2] = STANDING .. id, stands
    leased, values = leased + 1, values + 2
    ids[leased], jobs[leased], leases[leased] = id, job, id .. '\0\0\0\1'
end

-- Leases the job that a cursor has come to and that has run before.
local function lease_again(cursor, id, standing)
    local attempt = struct.pack('>I4', struct.unpack('>I4', standing, 3) + 1)
    local flags, known = '\0', ''
    if cursor.suspects then
        flags, known = suspects == 2 and '\3' or '\1', standing:sub(40, 51) .. struct.pack('>i8', now)
    end
    again[#again + 1] = STANDING .. id
    again[#again + 1] = '\1' .. flags .. attempt .. worker .. standing:sub(23, 34) .. NEW:sub(35) .. known .. cursor.lane
    leased = leased + 1
    ids[leased], jobs[leased], leases[leased] = id, cursor.jobs[cursor.at], id .. attempt
    local count = #before
    before[count + 1], before[count + 2], before[count + 3] = leased, standing, cursor.counts[cursor.at] or false
end

-- A job may stand in two places: it was called off in line and pruned, say, and has been enqueued again.
local taken = {}

-- Whether a job beside the line was taken from its old place in line, as one that was moved: `start_new` lets go of that, and
-- the job is leased by the next call.
local function is_taken_in_line(id, standing)
    return taken[id] == 'in line' and standing
end

-- Leases the job beside the line that a cursor has come to, and moves the cursor on.
local function take(cursor)
    local id, standing = cursor.ids[cursor.at], cursor.standings[cursor.at]
    if not is_taken_in_line(id, standing) then
        if not taken[id] then
            cursor.leased = cursor.leased + 1
            if standing then
                lease_again(cursor, id, standing)
            else
                lease_new(id, cursor.jobs[cursor.at], NEW .. cursor.lane)
            end
        end
        taken[id] = 'beside'
        cursor.out[#cursor.out + 1] = id
    end
    if cursor.suspects then
        seat = nil
    end
    if leased < limit or cursor.suspects then
        advance(cursor, behind)
    else
        cursor.at = nil
    end
end

-- Leases the job in line that a cursor has come to, and those behind it that may go before the job of the other cursor, if
-- there is one, and moves the cursor on.
local function take_from_line(cursor, other)
    local page, of_page, standings, index = cursor.ids, cursor.jobs, cursor.standings, cursor.at
    local rival = other and other.rank == USUAL and other.ids[other.at]
    local stands, before_it = NEW .. cursor.lane, leased
    repeat
        local id = page[index]
        if not taken[id] then
            lease_new(id, of_page[index], stands)
            taken[id] = any_beside and 'in line' or nil
        end
        index = index + 1
    until leased == limit or behind or not of_page[index] or standings[index] or rival and not is_before(page[index], rival)
    cursor.index, cursor.at, cursor.leased = index, nil, cursor.leased + leased - before_it
    if leased < limit then
        advance(cursor, behind)
    end
end

local first, second = most_urgent()
while first and leased < limit do
    if first.in_line then
        take_from_line(first, second)
    else
        take(first)
    end
    if not first.at or first.suspects or second and not is_more_urgent(first, second) then
        first, second = most_urgent()
    end
end

-- Lets go of the jobs that were called off or moved in line. How they stand says so: they are not new.
local function let_go_of_called_off()
    local has_run, kept, started, at = {}, {}, new, -1
    for index = 1, #before, 3 do
        has_run[before[index]] = true
    end
    new = {}
    for index = 1, leased do
        at = has_run[index] and at or at + 2
        local standing, stands = started[at], started[at + 1]
        if not has_run[index] and call('EXISTS', standing) == 1 then
            jobs[index], ask_again = false, 1
            tally_move(RUNNING, WAITING, lane_it_runs_in(stands), 1)
        else
            kept[#kept + 1] = leases[index]
            if not has_run[index] then
                new[#new + 1], new[#new + 2] = standing, stands
            end
        end
    end
    leases = kept
end

-- Says of the jobs that are leased for the first time that they run.
local function start_new()
    if #new > MOST or #new > 0 and insist('MSETNX', unpack(new)) == 0 then
        let_go_of_called_off()
        set_all(new)
    end
end

-- Remembers in which lane all jobs are that the worker holds, or nothing, where they are in several: then a settlement need
-- not look at each. That is still so when the worker holds none.
local function remember_lane()
    local known, lane = call('HGET', key('lane_of'), worker), nil
    for _, cursor in ipairs(cursors) do
        if cursor.leased > 0 then
            lane = (not lane or lane == cursor.lane) and cursor.lane or ''
        end
    end
    if known ~= '' and known ~= lane then
        local is_first = not known and call('EXISTS', key('held:', worker)) == 0
        call('HSET', key('lane_of'), worker, is_first and lane or '')
    end
end

if leased > 0 then
    for _, cursor in ipairs(cursors) do
        if cursor.leased > 0 then
            tally_move(WAITING, RUNNING, cursor.lane, cursor.leased)
        end
    end
    start_new()
    set_all(again)
    remember_lane()
    call_all('SADD', key('held:', worker), leases)
    call('HSETNX', key('beats'), worker, '')
    write_tallies()
end
local suspect_waits = 0
for _, cursor in ipairs(cursors) do
    if behind and not cursor.ended then
        local some = range(cursor, cursor.from + cursor.index - 1, AHEAD)
        local all, standings = get_all(keys_of(JOB, some)), get_all(keys_of(STANDING, some))
        for index = 1, #some do
            local job, standing = all[index], standings[index]
            if is_leasable(cursor, job, standing) and due_of(job, standing) > now then
                see(due_of(job, standing))
            end
        end
    end
    take_out(cursor)
    if cursor.suspects and cursor.at then
        suspect_waits = 1
    end
end
for _, cursor in ipairs(cursors) do
    local lane = cursor.lane
    if cursor.in_line and call('EXISTS', cursor.key, key('ready:', lane), key('suspects:', lane), key('later:', lane)) == 0 then
        call('SREM', key('lanes'), lane)
    end
end
return { next_due or false, suspect_waits, ask_again, ids, jobs, before }
