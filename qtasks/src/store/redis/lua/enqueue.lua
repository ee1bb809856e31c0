-- ARGV from 2: jobs, as `enqueue` takes them.

enqueue(2, #ARGV)
notify({}, {}, true)
