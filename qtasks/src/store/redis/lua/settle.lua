-- ARGV from 2, for each settlement: the job; what must hold; the next state, as numbers; when it is due or has ended; the
-- attempt that ends, or nothing; and the outcome. Gives for each whether it was written.

local EACH = 6
local held, ended = {}, { finished = {}, dead = {} }

local jobs, keys = {}, {}
for at = 2, #ARGV, EACH do
    keys[#keys + 1] = job_key .. ARGV[at]
end
for from = 1, #keys, MOST do
    for place, job in ipairs(call('MGET', unpack(keys, from, math.min(from + MOST - 1, #keys)))) do
        jobs[ARGV[2 + EACH * (from + place - 2)]] = job
    end
end

-- What many jobs have in common is done at once, but before one of them is settled again.
local function flush()
    for worker, ids in pairs(held) do
        call_all('SREM', KEYS[1] .. 'held:' .. worker, ids)
    end
    for where, scored in pairs(ended) do
        call_all('ZADD', KEYS[1] .. where, scored)
    end
    held, ended = {}, { finished = {}, dead = {} }
end

-- How long the part of each kind is that says who holds a job; behind it may stand how many steps the job must have.
local LENGTHS = { L = 21, E = 13, S = 6 }

local function holds(job, hold)
    local kind, state = hold:sub(1, 1), struct.unpack('B', job)
    if #hold > LENGTHS[kind] and job:sub(27, 34) ~= hold:sub(LENGTHS[kind] + 1) then
        return false
    elseif kind == 'L' then
        return state == RUNNING and job:sub(3, 22) == hold:sub(2, 21)
    elseif job:sub(3, 6) ~= hold:sub(2, 5) then
        return false
    elseif kind == 'E' then
        return state == RUNNING and ran_out(job:sub(7, 22), struct.unpack('>i8', hold, 6))
    end
    return state == struct.unpack('B', hold, 6)
end

local function ends_in(state)
    return state == DEAD and 'dead' or 'finished'
end

local function lane_of(job)
    return job:sub(110, 109 + struct.unpack('>I4', job, 102))
end

-- Takes a job from where its state had put it.
local function remove(id, job)
    local state = struct.unpack('B', job)
    if state == RUNNING then
        local worker = job:sub(7, 22)
        held[worker] = held[worker] or {}
        table.insert(held[worker], id)
        return
    end
    flush()
    if state ~= WAITING then
        call('ZREM', KEYS[1] .. ends_in(state), id)
        return
    end
    for _, where in ipairs({ 'ready:', 'suspects:', 'later:' }) do
        call('ZREM', KEYS[1] .. where .. lane_of(job), id)
    end
end

local answer, news, over, changed, work = {}, {}, {}, {}, false
for at = 2, #ARGV, EACH do
    local id, time, attempt, outcome = ARGV[at], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5]
    local job = jobs[id]
    if job and holds(job, ARGV[at + 1]) then
        local state, is_due, suspect, failures, shape, millis = struct.unpack('>BBBI4Bi8', ARGV[at + 2])
        remove(id, job)
        local length, _, rank, _, _, lane, args = struct.unpack('>I4I4hi8i8I4I4', job, 76)
        local body = 109 + lane + args
        if length > 0 then
            local last = job:sub(body + 1, body + length)
            if attempt == '' then
                attempt = last
            else
                call('RPUSH', KEYS[1] .. 'h:' .. id, last)
            end
        end
        local flags = struct.unpack('B', job, 2)
        local head = struct.pack(
            '>BBc20I4c40i8BI4I4', state, flags - flags % 2 + suspect, job:sub(3, 22), failures, job:sub(27, 66), millis, shape,
            #attempt, #outcome
        )
        jobs[id] = head .. job:sub(84, body) .. attempt .. outcome
        changed[#changed + 1], changed[#changed + 2] = job_key .. id, jobs[id]
        if state == WAITING then
            work = true
            if is_due == 0 then
                wait('later', lane_of(job), { time, id })
            else
                wait(suspect == 1 and 'suspects' or 'ready', lane_of(job), { rank, id })
                reach_to(millis)
            end
        else
            local scored = ended[ends_in(state)]
            scored[#scored + 1], scored[#scored + 2] = time, id
            over[#over + 1] = id
        end
        news[#news + 1] = id
        answer[#answer + 1] = 1
    else
        answer[#answer + 1] = 0
    end
end
set_all(changed, 1, #changed)
flush()
tell(news, over, work)
return answer
