#!/bin/sh
# First process of the guest: BusyBox and nothing else. The shell runs as a child, with the console as its terminal, so
# that it has job control and so that this process stays.
/bin/busybox mkdir -p /sbin /usr/bin /usr/sbin
/bin/busybox --install -s
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM=vt100 PS1='guest# '
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
hostname partita-guest

# What BusyBox's reboot, poweroff and halt ask of the first process.
trap 'reboot -f' TERM
trap 'poweroff -f' USR2
trap 'halt -f' USR1

echo
echo "partita-guest: shell ready"
cd /root
while true; do
    setsid cttyhack sh < /dev/console > /dev/console 2>&1 &
    # Unlike a command in the foreground, this is interrupted by the signals above.
    wait $!
    echo "partita-guest: the shell ended; a new one follows (poweroff ends the machine)"
done
