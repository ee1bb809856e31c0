-- ARGV from 2: the worker, how many jobs, how one may be a suspect (0 not at all, 1 beside others, 2 alone), the time, and
-- the lanes.
-- Gives when the next job will be due, whether a suspect waits, whether to ask again for more, and of each job the id, the
-- job, and, where there is that already, how it stood and its counts.

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
    local cursor = { key = key(where, lane), lane = lane, from = 0, ids = {}, index = 1, out = {}, kept = {}, useless = 0 }
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
        cursor.keys, cursor.standings, cursor.counts = keys_of(STANDING, cursor.ids), {}, {}
        cursor.jobs = get_all(keys_of(JOB, cursor.ids))
        if not cursor.in_line or call('EXISTS', unpack(cursor.keys)) > 0 then
            cursor.standings, cursor.counts = get_all(cursor.keys), get_all(keys_of(COUNTS, cursor.ids))
        end
    end
end

-- When a job is due: by how it stands, if it has run, or else by itself.
local function due_of(job, standing)
    return standing and due_or_ended(standing) or struct.unpack('>i8', job, 3)
end

-- Whether a job can be leased, apart from its time. It cannot when the server has evicted it, an operator has deleted it, or
-- it was called off while it stood in line.
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
    elseif #cursor.out > 0 then
        call('LPOP', cursor.key, #cursor.out + #cursor.kept)
        local kept = {}
        for index = #cursor.kept, 1, -1 do
            kept[#kept + 1] = cursor.kept[index]
        end
        call_all('LPUSH', cursor.key, kept)
    end
end

local cursors, seen = {}, {}
for _, lane in ipairs(lanes) do
    if not seen[lane] then
        seen[lane] = true
        promote(lane)
        -- A job that stands both in line and beside it was called off in line.
        for _, where in ipairs({ 'ready:', 'line:', 'suspects:' }) do
            cursors[#cursors + 1] = new_cursor(where, lane)
        end
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

local answer, leases, standings, taken = { false, 0, 0 }, {}, {}, {}
local leased, first, second = 0, most_urgent()
-- How a job stands that runs for the first time.
local NEW = struct.pack('>BBI4', RUNNING, 0, 1) .. worker .. struct.pack('>I4i8BI4', 0, 0, 255, 0)

-- Leases the job that a cursor has come to.
local function take(cursor)
    local at, attempt, runs = cursor.at, '\0\0\0\1', NEW
    local id, standing = cursor.ids[at], cursor.standings[at] or false
    if standing then
        attempt = struct.pack('>I4', struct.unpack('>I4', standing, 3) + 1)
        local flags, known = '\0', ''
        if cursor.suspects then
            -- A program of format 2 that still runs leaves out what is known of a suspect.
            known = #standing == 59 and standing:sub(40, 51) or string.rep('\0', 12)
            flags, known = suspects == 2 and '\3' or '\1', known .. struct.pack('>i8', now)
        end
        runs = '\1' .. flags .. attempt .. worker .. standing:sub(23, 26) .. NEW:sub(27) .. known
    end
    local index = 4 * leased + 4
    answer[index], answer[index + 1] = id, cursor.jobs[at]
    answer[index + 2], answer[index + 3] = standing, cursor.counts[at] or false
    standings[2 * leased + 1], standings[2 * leased + 2] = cursor.keys[at], runs
    leased = leased + 1
    leases[leased], taken[id] = id .. attempt, true
    if cursor.suspects then
        seat = nil
    end
end

while first and leased < limit do
    local id = first.ids[first.at]
    -- A job may stand in two sets.
    if not taken[id] then
        take(first)
    end
    first.out[#first.out + 1] = id
    if leased < limit or first.suspects then
        advance(first, behind)
    else
        first.at = nil
    end
    if not first.at or first.suspects or second and not is_more_urgent(first, second) then
        first, second = most_urgent()
    end
end

if leased > 0 then
    set_all(standings)
    call_all('SADD', key('held:', worker), leases)
    call('HSETNX', key('beats'), worker, '')
end
for _, cursor in ipairs(cursors) do
    if behind and not cursor.ended then
        local ids = range(cursor, cursor.from + cursor.index - 1, AHEAD)
        local jobs, standings = get_all(keys_of(JOB, ids)), get_all(keys_of(STANDING, ids))
        for index = 1, #ids do
            local job, standing = jobs[index], standings[index]
            if is_leasable(cursor, job, standing) and due_of(job, standing) > now then
                see(due_of(job, standing))
            end
        end
    end
    take_out(cursor)
    if cursor.suspects and cursor.at then
        answer[2] = 1
    end
    local keys = { 'line:', 'ready:', 'suspects:', 'later:' }
    for index, where in ipairs(keys) do
        keys[index] = key(where, cursor.lane)
    end
    if cursor.suspects and call('EXISTS', unpack(keys)) == 0 then
        call('SREM', key('lanes'), cursor.lane)
    end
end
answer[1], answer[3] = next_due or false, ask_again
return answer
