#!/bin/sh
# First process of the guest: BusyBox and nothing else. It prepares the system and becomes BusyBox's init, which gives the
# shell the console as its terminal, so that it has job control, and knows what reboot and poweroff ask of it.
/bin/busybox mkdir -p /sbin /usr/bin /usr/sbin /etc
/bin/busybox --install -s
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
hostname partita-guest
# The virtualization stack's bus, and the services on it. Nothing is lost where there is none.
for module in hv_vmbus hv_utils hv_balloon; do
    insmod /lib/$module.ko 2>/dev/null
done

# What a process commits is what Dynamic Memory goes by, and it may commit more than there is at the moment.
echo 1 > /proc/sys/vm/overcommit_memory

# The key/value service has its other half in a daemon, which some guests have.
[ -x /usr/sbin/hv_kvp_daemon ] && hv_kvp_daemon

cat > /bin/dmesg-warnings <<'WARNINGS'
#!/bin/sh
# What the kernel has warned of, without its times.
dmesg -r | sed -n 's/^<[0-4]>\[ *[0-9.]*\] //p'
WARNINGS
chmod +x /bin/dmesg-warnings

cat > /bin/commit <<'COMMIT'
#!/bin/sh
# commit MIB SECONDS: has so much private memory in one piece for so long, and touches none of it.
sleep $2 | dd bs=${1}M count=1 iflag=fullblock of=/dev/null 2>/dev/null
COMMIT
chmod +x /bin/commit

cat > /bin/work <<'WORK'
#!/bin/sh
# work MIB SECONDS: has so much private memory in one piece, touches all of it, each part once the kernel says that there is
# as much available, says how many seconds that took, and keeps it for so many seconds.
spare=24
uptime() {
    read now rest < /proc/uptime
    echo ${now%.*}
}
feed() {
    from=$(uptime)
    left=$1
    while [ $left -gt 0 ]; do
        part=$(( $(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo) / 1024 - spare ))
        [ $part -le $left ] || part=$left
        if [ $part -ge 1 ]; then
            dd if=/dev/zero bs=1M count=$part 2>/dev/null
            left=$((left - part))
        else
            sleep 1
        fi
    done
    echo "worked: $1 MiB after $(( $(uptime) - from )) s" >&2
    sleep $2
}
# Its buffer has room for one more, so that it waits for that until the feeding ends.
feed $1 $2 | dd bs=$(($1 + 1))M count=1 iflag=fullblock of=/dev/null 2>/dev/null
WORK
chmod +x /bin/work

cat > /bin/partita-shell <<'SHELL'
#!/bin/sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM=vt100 PS1='guest# '
echo
echo "partita-guest: shell ready"
cd /root
exec cttyhack sh
SHELL
chmod +x /bin/partita-shell

cat > /etc/inittab <<'INITTAB'
::respawn:/bin/partita-shell
::ctrlaltdel:/sbin/reboot
INITTAB
exec /sbin/init
