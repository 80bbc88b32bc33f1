# Made by: python -m manual


# Parse current commandline:
# - _shtab_threadwatch_cmdpath=(sub)command path seen so far
# - _shtab_threadwatch_npos=number of positional arguments given after it
# - options are skipped based on _shtab_threadwatch_opts_with_value & _shtab_threadwatch_commands lists
function _shtab_threadwatch_scan
  set -g _shtab_threadwatch_cmdpath ''
  set -g _shtab_threadwatch_npos 0
  set -l tokens (commandline -opc)
  set -e tokens[1]
  set -l expect_value 0
  for t in $tokens
    if test $expect_value -eq 1
      set expect_value 0
      continue
    end
    switch "$t"
      case '--*=*'
        continue
      case '-*'
        if contains -- $t $_shtab_threadwatch_opts_with_value
          set expect_value 1
        end
        continue
      case '*'
        if test $_shtab_threadwatch_npos -eq 0
          set -l candidate $t
          if test -n "$_shtab_threadwatch_cmdpath"
            set candidate "$_shtab_threadwatch_cmdpath $t"
          end
          if contains -- $candidate $_shtab_threadwatch_commands
            set -g _shtab_threadwatch_cmdpath $candidate
            continue
          end
        end
        set -g _shtab_threadwatch_npos (math $_shtab_threadwatch_npos + 1)
    end
  end
end

# Condition helper: true if the current (sub)command path equals the given one.
function _shtab_threadwatch_using
  _shtab_threadwatch_scan
  test "$_shtab_threadwatch_cmdpath" = "$argv"
end

set -g _shtab_threadwatch_commands serve ps top stack run attach detach doctor check-config check-web-config files demo
set -g _shtab_threadwatch_opts_with_value --config.file --count --filter --inject --interval --log.format --log.level --path.procfs --seconds --sort --timeout --url --web.allow-host --web.config.file --web.listen-address --web.telemetry-path -d -n

complete -c threadwatch -e
complete -c threadwatch -f

complete -c threadwatch -n _shtab_threadwatch_using -s h -l help -d 'show this help message and exit'
complete -c threadwatch -n _shtab_threadwatch_using -l version -d 'show program'"'"'s version number and exit'
complete -c threadwatch -n '_shtab_threadwatch_using; and test $_shtab_threadwatch_npos -eq 0' -a serve -d 'Watch, and export to Prometheus, until told to stop.'
complete -c threadwatch -n '_shtab_threadwatch_using serve' -s h -l help -d 'show this help message and exit'
complete -c threadwatch -n '_shtab_threadwatch_using serve' -l config.file -xka "(__fish_complete_path (commandline -ct | string replace -r '^--[^=]*=' ''))" -d 'configuration in YAML; without it every Python process is watched'
complete -c threadwatch -n '_shtab_threadwatch_using serve' -l config.auto-reload -d 'read the configuration again when its file changes, as on SIGHUP'
complete -c threadwatch -n '_shtab_threadwatch_using serve' -l web.listen-address -x -d 'where to answer: HOST:PORT, [IPV6]:PORT, :PORT for all interfaces, or unix:PATH[,mode=660]; may be given several times (default: what systemd hands over, or else the environment'"'"'s THREADWATCH_LISTEN_ADDRESS, or else 127.0.0.1:9749)'
complete -c threadwatch -n '_shtab_threadwatch_using serve' -l web.allow-host -x -d 'a name by which a browser or a proxy may ask on a loopback address, besides localhost and this machine'"'"'s own; may be given several times'
complete -c threadwatch -n '_shtab_threadwatch_using serve' -l web.telemetry-path -x -d 'the path of the metrics (default: /metrics)'
complete -c threadwatch -n '_shtab_threadwatch_using serve' -l web.enable-stacks -d 'let every client that may read the page ask for the Python stack of a thread; py-spy reads it, and stops the thread'"'"'s process for some milliseconds'
complete -c threadwatch -n '_shtab_threadwatch_using serve' -l web.config.file -xka "(__fish_complete_path (commandline -ct | string replace -r '^--[^=]*=' ''))" -d 'TLS, users with passwords, response headers, in the format of Prometheus'"'"' exporters; read again when it or a certificate changes'
complete -c threadwatch -n '_shtab_threadwatch_using serve' -l path.procfs -xka "(__fish_complete_directories)" -d 'where procfs is mounted (default: /proc)'
complete -c threadwatch -n '_shtab_threadwatch_using serve' -l log.level -xka "debug info warn error" -d 'the least important kind of message to log (default: info)'
complete -c threadwatch -n '_shtab_threadwatch_using serve' -l log.format -xka "logfmt json" -d 'how to write log lines (default: logfmt)'
complete -c threadwatch -n '_shtab_threadwatch_using; and test $_shtab_threadwatch_npos -eq 0' -a ps -d 'Show every thread once: kernel TID, Python name, state, CPU.'
complete -c threadwatch -n '_shtab_threadwatch_using ps' -s h -l help -d 'show this help message and exit'
complete -c threadwatch -n '_shtab_threadwatch_using ps' -l json -d 'an array of processes, for programs'
complete -c threadwatch -n '_shtab_threadwatch_using ps' -l interval -x -d 'how long to measure CPU % for; 0 leaves it out (default: 0.5)'
complete -c threadwatch -n '_shtab_threadwatch_using ps' -l config.file -xka "(__fish_complete_path (commandline -ct | string replace -r '^--[^=]*=' ''))" -d 'configuration in YAML; without it every Python process is watched'
complete -c threadwatch -n '_shtab_threadwatch_using ps' -l path.procfs -xka "(__fish_complete_directories)" -d 'where procfs is mounted (default: /proc)'
complete -c threadwatch -n '_shtab_threadwatch_using ps; and test $_shtab_threadwatch_npos -ge 0' -ka "(pgrep -l python)" -d 'a process, or an application; all by default'
complete -c threadwatch -n '_shtab_threadwatch_using; and test $_shtab_threadwatch_npos -eq 0' -a top -d 'Show every thread live, in the terminal.'
complete -c threadwatch -n '_shtab_threadwatch_using top' -s h -l help -d 'show this help message and exit'
complete -c threadwatch -n '_shtab_threadwatch_using top' -s d -l interval -x -d 'how often to look (default: 1.0)'
complete -c threadwatch -n '_shtab_threadwatch_using top' -l sort -xka "cpu held wait ready time age state tid" -d 'what to order by (default: cpu)'
complete -c threadwatch -n '_shtab_threadwatch_using top' -l reverse -d 'the other way round'
complete -c threadwatch -n '_shtab_threadwatch_using top' -l filter -x -d 'only threads that fit; a|b: either'
complete -c threadwatch -n '_shtab_threadwatch_using top' -l flat -d 'a list of threads, not a tree'
complete -c threadwatch -n '_shtab_threadwatch_using top' -l busy -d 'without idle threads'
complete -c threadwatch -n '_shtab_threadwatch_using top' -s b -l batch -d 'plain text, for pipes and files'
complete -c threadwatch -n '_shtab_threadwatch_using top' -s n -l count -x -d 'end after this many views (with -b)'
complete -c threadwatch -n '_shtab_threadwatch_using top' -l once -d 'the same as -b -n 1'
complete -c threadwatch -n '_shtab_threadwatch_using top' -l url -x -d 'show what a daemon sees, instead of this host'"'"'s procfs: http://HOST:9749; a user and a password are best given in the environment, THREADWATCH_BASIC_AUTH=USER:PASSWORD'
complete -c threadwatch -n '_shtab_threadwatch_using top' -l config.file -xka "(__fish_complete_path (commandline -ct | string replace -r '^--[^=]*=' ''))" -d 'configuration in YAML; without it every Python process is watched'
complete -c threadwatch -n '_shtab_threadwatch_using top' -l path.procfs -xka "(__fish_complete_directories)" -d 'where procfs is mounted (default: /proc)'
complete -c threadwatch -n '_shtab_threadwatch_using top; and test $_shtab_threadwatch_npos -ge 0' -ka "(pgrep -l python)" -d 'a process, or an application; all by default'
complete -c threadwatch -n '_shtab_threadwatch_using; and test $_shtab_threadwatch_npos -eq 0' -a stack -d 'Print which Python code the threads of a process run, once, by py-spy.'
complete -c threadwatch -n '_shtab_threadwatch_using stack' -s h -l help -d 'show this help message and exit'
complete -c threadwatch -n '_shtab_threadwatch_using stack' -l json -d 'print JSON'
complete -c threadwatch -n '_shtab_threadwatch_using stack' -l nonblocking -d 'do not stop the process; stacks of threads that run can then be wrong'
complete -c threadwatch -n '_shtab_threadwatch_using; and test $_shtab_threadwatch_npos -eq 0' -a run -d 'Start a command whose Python processes publish their threads.'
complete -c threadwatch -n '_shtab_threadwatch_using run' -s h -l help -d 'show this help message and exit'
complete -c threadwatch -n '_shtab_threadwatch_using; and test $_shtab_threadwatch_npos -eq 0' -a attach -d 'Have a running process publish its threads, on CPython 3.14 or later.'
complete -c threadwatch -n '_shtab_threadwatch_using attach' -s h -l help -d 'show this help message and exit'
complete -c threadwatch -n '_shtab_threadwatch_using attach' -l yes -d 'do not ask before it is changed'
complete -c threadwatch -n '_shtab_threadwatch_using attach' -l timeout -x -d 'how long to wait for one of its threads to run Python (default: 10.0)'
complete -c threadwatch -n '_shtab_threadwatch_using; and test $_shtab_threadwatch_npos -eq 0' -a detach -d 'Have a running process cease to publish its threads, on CPython 3.14 or later.'
complete -c threadwatch -n '_shtab_threadwatch_using detach' -s h -l help -d 'show this help message and exit'
complete -c threadwatch -n '_shtab_threadwatch_using detach' -l timeout -x -d 'how long to wait for one of its threads to run Python (default: 10.0)'
complete -c threadwatch -n '_shtab_threadwatch_using; and test $_shtab_threadwatch_npos -eq 0' -a doctor -d 'Say what can be seen, what publishes, what permission hides, and how to grant it.'
complete -c threadwatch -n '_shtab_threadwatch_using doctor' -s h -l help -d 'show this help message and exit'
complete -c threadwatch -n '_shtab_threadwatch_using doctor' -l json -d 'one object, for programs'
complete -c threadwatch -n '_shtab_threadwatch_using doctor' -l config.file -xka "(__fish_complete_path (commandline -ct | string replace -r '^--[^=]*=' ''))" -d 'configuration in YAML; without it every Python process is watched'
complete -c threadwatch -n '_shtab_threadwatch_using doctor' -l path.procfs -xka "(__fish_complete_directories)" -d 'where procfs is mounted (default: /proc)'
complete -c threadwatch -n '_shtab_threadwatch_using doctor; and test $_shtab_threadwatch_npos -ge 0' -ka "(pgrep -l python)" -d 'a process, or an application; all by default'
complete -c threadwatch -n '_shtab_threadwatch_using; and test $_shtab_threadwatch_npos -eq 0' -a check-config -d 'Say whether a configuration can be used.'
complete -c threadwatch -n '_shtab_threadwatch_using check-config' -s h -l help -d 'show this help message and exit'
complete -c threadwatch -n '_shtab_threadwatch_using check-config; and test $_shtab_threadwatch_npos -ge 0' -ka "(__fish_complete_path (commandline -ct | string replace -r '^--[^=]*=' ''))" -d FILE
complete -c threadwatch -n '_shtab_threadwatch_using; and test $_shtab_threadwatch_npos -eq 0' -a check-web-config -d 'Say whether a web configuration can be used, with its certificates and keys.'
complete -c threadwatch -n '_shtab_threadwatch_using check-web-config' -s h -l help -d 'show this help message and exit'
complete -c threadwatch -n '_shtab_threadwatch_using check-web-config; and test $_shtab_threadwatch_npos -ge 0' -ka "(__fish_complete_path (commandline -ct | string replace -r '^--[^=]*=' ''))" -d FILE
complete -c threadwatch -n '_shtab_threadwatch_using; and test $_shtab_threadwatch_npos -eq 0' -a files -d 'List and print the files that come along: unit, rules, dashboards, configuration, runbooks.'
complete -c threadwatch -n '_shtab_threadwatch_using files' -s h -l help -d 'show this help message and exit'
complete -c threadwatch -n '_shtab_threadwatch_using files' -l inject -x -d 'copy what has Python publish to DIR/threadwatch, for containers and environments that have no threadwatch, and print the PYTHONPATH that they need'
complete -c threadwatch -n '_shtab_threadwatch_using; and test $_shtab_threadwatch_npos -eq 0' -a demo -d 'Start an application with every kind of thread, and watch it.'
complete -c threadwatch -n '_shtab_threadwatch_using demo' -s h -l help -d 'show this help message and exit'
complete -c threadwatch -n '_shtab_threadwatch_using demo' -l web.listen-address -x -d 'where to answer (default: 127.0.0.1:9749, or any free port)'
complete -c threadwatch -n '_shtab_threadwatch_using demo' -l seconds -x -d 'end after this time; without it, Ctrl-C ends it'

complete -c threadwatch -n '_shtab_threadwatch_using run' -x -a '(__fish_complete_subcommand --fcs-skip=3)'
