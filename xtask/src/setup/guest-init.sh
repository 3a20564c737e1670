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
