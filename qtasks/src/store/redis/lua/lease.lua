-- ARGV from 2: the worker, how many jobs, how one may be a suspect (0 not at all, 1 beside others, 2 alone), the time, and
-- the lanes.
-- Gives when the next job will be due, whether a suspect waits, whether to ask again for more, and of each job the id, the
-- job, and, where there is that already, how it stood and its counts.

local worker, limit, suspects, now = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
-- As many jobs are read at a time: they may be large.
local READ = 32
-- So many jobs that are not due are passed over in a lane, when the clock of the worker is behind: what stands behind them
-- is for others.
local PASSED = 1000
-- So many that stand in line and do not wait are taken out in a lane at a time,
local USELESS = 4000
-- and so many whose time has come are let in.
local COME = 10000
-- Where more are in line than asked for, so many are looked at for one that is not due.
local AHEAD = 16

local next_due
local function see(due)
    if not next_due or due < next_due then
        next_due = due
    end
end

local asked, lanes = {}, {}
for place = 6, #ARGV do
    asked[place - 5] = ARGV[place]
end
for place, waits in ipairs(are_in(key('lanes'), asked)) do
    if waits == 1 then
        lanes[#lanes + 1] = asked[place]
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

-- Where jobs of a lane wait: the line, which is a list of those that never ran, or a set of others.
local function new_front(where, lane)
    local front = { key = key(where, lane), lane = lane, from = 0, ids = {}, place = 1, out = {}, kept = {}, useless = 0 }
    front.in_line, front.suspects = where == 'line:', where == 'suspects:'
    return front
end

-- The ids from a place on, and their ranks, if they are not the usual ones, or the scores of suspects.
local function range(front, from, count)
    if front.in_line then
        return call('LRANGE', front.key, from, from + count - 1)
    end
    local ids, scores = {}, {}
    local scored = call('ZRANGE', front.key, from, from + count - 1, 'WITHSCORES')
    for place = 1, #scored, 2 do
        ids[#ids + 1], scores[#scores + 1] = scored[place], tonumber(scored[place + 1])
    end
    return ids, scores
end

local function turn_page(front)
    front.from = front.from + #front.ids
    local count = front.useless > 0 and READ or page
    front.ids, front.scores = range(front, front.from, count)
    front.place, front.is_last = 1, #front.ids < count
    if #front.ids > 0 then
        front.keys, front.standings, front.counts = keys_of(STANDING, front.ids), {}, {}
        front.jobs = get_all(keys_of(JOB, front.ids))
        if not front.in_line or call('EXISTS', unpack(front.keys)) > 0 then
            front.standings, front.counts = get_all(front.keys), get_all(keys_of(COUNTS, front.ids))
        end
    end
end

-- When a job is due: by how it stands, if it has run, or else by itself.
local function due_of(job, standing)
    return standing and due_or_ended(standing) or struct.unpack('>i8', job, 3)
end

-- Whether a job can be leased, but for its time. It cannot when the server has evicted it, or somebody deleted it, or when
-- it was called off while it stood in line.
local function is_leasable(front, job, standing)
    return job and not (standing and (front.in_line or standing:byte() ~= WAITING))
end

local ask_again = 0

-- Goes on to the next job that is due; to nothing, where there is none.
local function advance(front, behind)
    while not front.ended do
        local place = front.place
        if place > #front.ids then
            front.ended = front.is_last
            if not front.ended then
                turn_page(front)
            end
        else
            local id, job, standing = front.ids[place], front.jobs[place], front.standings[place]
            if not is_leasable(front, job, standing) then
                front.out[#front.out + 1], front.useless = id, front.useless + 1
                if front.useless == USELESS then
                    front.ended, ask_again = true, 1
                end
            elseif not behind or due_of(job, standing) <= now then
                front.at, front.score = place, front.scores and front.scores[place] or USUAL
                front.rank = front.suspects and struct.unpack('>h', job) or front.score
                front.place = place + 1
                return
            else
                see(due_of(job, standing))
                front.kept[#front.kept + 1] = id
                front.ended = #front.kept == PASSED
            end
            front.place = place + 1
        end
    end
    front.at = nil
end

-- Takes out what is leased, and what is of no use.
local function take_out(front)
    if not front.in_line then
        call_all('ZREM', front.key, front.out)
    elseif #front.out > 0 then
        call('LPOP', front.key, #front.out + #front.kept)
        local kept = {}
        for place = #front.kept, 1, -1 do
            kept[#kept + 1] = front.kept[place]
        end
        call_all('LPUSH', front.key, kept)
    end
end

local fronts, seen = {}, {}
for _, lane in ipairs(lanes) do
    if not seen[lane] then
        seen[lane] = true
        promote(lane)
        -- A job that stands both in line and beside it was called off in line.
        for _, where in ipairs({ 'ready:', 'line:', 'suspects:' }) do
            fronts[#fronts + 1] = new_front(where, lane)
        end
    end
end
local behind = #fronts > 0 and now < reach()
for _, front in ipairs(fronts) do
    advance(front, behind)
end

-- Whether a front comes before another, by rank or score, and then by id.
local function is_less(front, other, by)
    if front[by] ~= other[by] then
        return front[by] < other[by]
    end
    return is_before(front.ids[front.at], other.ids[other.at])
end

-- Where the one suspect stands that may be leased: of those that the fronts have come to, the first by score.
local seat
for _, front in ipairs(fronts) do
    if suspects > 0 and front.suspects and front.at and (not seat or is_less(front, seat, 'score')) then
        seat = front
    end
end

local function is_more_urgent(front, other)
    return is_less(front, other, 'rank')
end

-- The front with the most urgent job, and the next one.
local function most_urgent()
    local first, second
    for _, front in ipairs(fronts) do
        if front.at and (not front.suspects or front == seat) then
            if not first or is_more_urgent(front, first) then
                first, second = front, first
            elseif not second or is_more_urgent(front, second) then
                second = front
            end
        end
    end
    return first, second
end

local answer, leases, standings, taken = { false, 0, 0 }, {}, {}, {}
local leased, first, second = 0, most_urgent()
-- How a job stands that runs for the first time.
local NEW = struct.pack('>BBI4', RUNNING, 0, 1) .. worker .. struct.pack('>I4i8BI4', 0, 0, 255, 0)

-- Leases the job that a front has come to.
local function take(front)
    local at, attempt, runs = front.at, '\0\0\0\1', NEW
    local id, standing = front.ids[at], front.standings[at] or false
    if standing then
        attempt = struct.pack('>I4', struct.unpack('>I4', standing, 3) + 1)
        local flags, known = '\0', ''
        if front.suspects then
            -- A program of format 2 that still runs leaves out what is known of a suspect.
            known = #standing == 59 and standing:sub(40, 51) or string.rep('\0', 12)
            flags, known = suspects == 2 and '\3' or '\1', known .. struct.pack('>i8', now)
        end
        runs = '\1' .. flags .. attempt .. worker .. standing:sub(23, 26) .. NEW:sub(27) .. known
    end
    local place = 4 * leased + 4
    answer[place], answer[place + 1] = id, front.jobs[at]
    answer[place + 2], answer[place + 3] = standing, front.counts[at] or false
    standings[2 * leased + 1], standings[2 * leased + 2] = front.keys[at], runs
    leased = leased + 1
    leases[leased], taken[id] = id .. attempt, true
    if front.suspects then
        seat = nil
    end
end

while first and leased < limit do
    local id = first.ids[first.at]
    -- It may stand in two places.
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
for _, front in ipairs(fronts) do
    if behind and not front.ended then
        local ids = range(front, front.from + front.place - 1, AHEAD)
        local jobs, standings = get_all(keys_of(JOB, ids)), get_all(keys_of(STANDING, ids))
        for place = 1, #ids do
            local job, standing = jobs[place], standings[place]
            if is_leasable(front, job, standing) and due_of(job, standing) > now then
                see(due_of(job, standing))
            end
        end
    end
    take_out(front)
    if front.suspects and front.at then
        answer[2] = 1
    end
    local places = { 'line:', 'ready:', 'suspects:', 'later:' }
    for place, where in ipairs(places) do
        places[place] = key(where, front.lane)
    end
    if front.suspects and call('EXISTS', unpack(places)) == 0 then
        call('SREM', key('lanes'), front.lane)
    end
end
answer[1], answer[3] = next_due or false, ask_again
return answer
