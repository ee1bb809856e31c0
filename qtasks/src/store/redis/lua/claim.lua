-- ARGV from 2: the keys of jobs, as `claim` takes them; and the jobs, as `enqueue` takes them.
-- Gives the id of a job that is refused, that of the holder of its key and nothing; or the ids of the jobs that were not added and of
-- those that hold their keys, in turn.

local at, skip, joined, late, refused = claim(2)
if refused then
    return refused
end
enqueue(at, #ARGV, skip)
finish(late)
write_tallies()
notify(holders_of(joined), {}, true)
return joined
