/**
 * Loaded into every part of the demo before its own code: a part whose demo is gone, even killed, ends by itself the
 * way Ctrl-C would end it.
 */
process.on('disconnect', () => process.kill(process.pid, 'SIGTERM'))
process.channel?.unref()
