# Receives one file and passes it on while it arrives. Runs as root with the arguments digest, size, folder, address, and
# after how many seconds without a word from bramble it ends (60 if nothing is said).
#
# Standard input, from bramble: `token T` (what others must show to get the file from here), `pull HOST PORT T` (get the
# rest of the file there), `data N` and N bytes (here is the rest), `ping` (still there). When it ends, or is silent for too
# long, so does this program.
# Standard output, to bramble: `busy` while another run brings the same file; `at BYTES PORT` once; then `have BYTES`,
# `lost BYTES WHY` (the source failed: say another one), `bad DIGEST` (all bytes came, and they are wrong; they are gone),
# `good` (the file is in place), `fail WHY`.
# Between nodes: the one that wants the file says `TOKEN OFFSET`, the other one answers with frames: a length in four
# bytes, then that many bytes; an empty frame says only that it is still there.
use strict;
use Socket;
use Fcntl;
use Errno qw(EAGAIN EINTR EINPROGRESS);

my ($digest, $size, $folder, $address, $abandoned) = @ARGV;
my ($chunk_size, $silence) = (256 * 1024, 20);
$abandoned ||= 60;
my ($whole, $part) = ("$folder/$digest", "$folder/.part.$digest");
$| = 1;
$SIG{PIPE} = 'IGNORE';
umask 077;

sub say_line { my $line = "$_[0]\n"; syswrite(STDOUT, $line) == length $line or exit 1; }
sub fail { say_line("fail $_[0]"); exit 1; }
sub quick { fcntl($_[0], F_SETFL, fcntl($_[0], F_GETFL, 0) | O_NONBLOCK); $_[0] }

my $made = '';
for (split '/', $folder) { $made .= "$_/"; mkdir $made; }
my $there = !-e $part && -f $whole ? $whole : $part;
sysopen(my $file, $there, O_RDWR | O_CREAT) or fail("$there cannot be opened: $!");
# The relay of an earlier stage may be about to end. One of another run brings the same bytes: they are waited for.
for (1 .. 9000) {
    last if flock $file, 2 | 4;
    fail('another run has been bringing this file to the node for a quarter of an hour') if $_ == 9000;
    say_line('busy') if $_ % 10 == 5;
    select undef, undef, undef, 0.1;
}
# Meanwhile that one may have put the file into its place.
if ($there eq $part && !-e $part && -f $whole) {
    close $file;
    sysopen($file, $whole, O_RDWR) && flock($file, 2 | 4) or fail("$whole cannot be opened: $!");
    $there = $whole;
}
rename $there, $part;
my $have = -s $file;
if ($have > $size) { truncate $file, 0; $have = 0; }
for (glob "$folder/.part.*") { unlink $_ if $_ ne $part && -M $_ > 1; }

# One reader of the file for all who want bytes that came earlier than the last ones; those are still at hand.
open(my $old, '<', $part) or fail("$part cannot be read: $!");
my ($last, $last_at) = ('', 0);
sub bytes_at {
    my $at = $_[0];
    return substr $last, $at - $last_at if $at >= $last_at && $at < $last_at + length $last;
    my $bytes;
    sysseek $old, $at, 0;
    defined sysread $old, $bytes, $chunk_size or fail("$part cannot be read: $!");
    return $bytes;
}
sub append {
    my $at = 0;
    sysseek $file, $have, 0;
    while ($at < length $_[0]) {
        my $n = syswrite $file, $_[0], length($_[0]) - $at, $at;
        defined $n or fail("$part cannot be written: $!");
        $at += $n;
    }
    ($last, $last_at) = ($_[0], $have);
    $have += $at;
}

my ($hash_in, $hash_out, $hashed, $hash_pid);
sub hash_begin {
    my $tool = -x '/usr/bin/openssl' ? 'openssl dgst -sha256 -r' : 'sha256sum';
    pipe(my $r, $hash_in) && pipe($hash_out, my $w) or fail("there is no pipe: $!");
    fcntl $hash_in, 1031, 1 << 20;    # F_SETPIPE_SZ: fewer turns; what cannot be had is done without
    $hash_pid = fork;
    defined $hash_pid or fail("there is no process: $!");
    if (!$hash_pid) {
        open STDIN, '<&', $r;
        open STDOUT, '>&', $w;
        close $_ for $r, $w, $hash_in, $hash_out;
        exec $tool or exit 127;
    }
    ($hashed, my $closed) = (0, close($r) && close($w));
    quick($hash_in);
}

# Puts the file in its place in a process of its own, so that passing it on does not wait for the disk.
my ($placed, $placing);
sub place {
    pipe($placed, my $w) or fail("there is no pipe: $!");
    $placing = fork;
    defined $placing or fail("there is no process: $!");
    return close $w if $placing;
    fcntl $w, F_SETFD, 0;    # its end says that the work is done
    exec 'sh', '-c', 'sync "$1" && mv "$1" "$2"', 'sh', $part, $whole or exit 127;
}

my $port = 0;
socket(my $door, PF_INET, SOCK_STREAM, 0) or fail("there is no socket: $!");
if (bind($door, pack_sockaddr_in(0, inet_aton($address))) && listen($door, 64)) {
    ($port) = unpack_sockaddr_in(getsockname $door);
    quick($door);
}
hash_begin();
say_line("at $have $port");

my ($token, $input, $raw, $source, $wire, $frame, $heard, %guests, $done, $said, $tried) = ('', '', 0, undef, '', 0, 0);
my $spoken_to = $said = time;

sub source_lost {
    close $source if $source;
    ($source, $wire, $frame) = (undef, '', 0);
    say_line("lost $have $_[0]");
}

sub pull {
    my ($host, $from, $secret) = @_;
    socket($source, PF_INET, SOCK_STREAM, 0) or fail("there is no socket: $!");
    quick($source);
    $heard = time;
    $tried = "$secret $have\n";
    if (!connect($source, pack_sockaddr_in($from, inet_aton($host))) && $! != EINPROGRESS) { source_lost("$!"); }
}

sub from_source {
    if (defined $tried) {
        my $error = unpack 'i', getsockopt($source, SOL_SOCKET, SO_ERROR);
        if ($error) { $! = $error; return source_lost("$!"); }
        undef $tried if defined syswrite $source, $tried;
        return;
    }
    my $n = sysread $source, my $bytes, $chunk_size;
    if (!defined $n) { return if $! == EAGAIN || $! == EINTR; return source_lost("$!"); }
    return source_lost('it closed the connection') if !$n;
    $heard = time;
    # The usual case, a piece out of the middle of a frame, is not copied again.
    while ($n) {
        if ($frame) {
            my $take = $frame < $n ? substr($bytes, 0, $frame, '') : $bytes;
            $frame -= length $take;
            $n -= length $take;
            append($take);
        } else {
            my $need = 4 - length $wire;
            $wire .= substr $bytes, 0, $need, '';
            $n = length $bytes;
            if (length $wire == 4) { $frame = unpack 'N', $wire; $wire = ''; }
            return source_lost('it sends more than there is') if $have + $frame > $size;
        }
    }
    if ($have == $size) { close $source; undef $source; }
}

sub from_bramble {
    my $n = sysread STDIN, my $bytes, $chunk_size;
    if (!defined $n) { return if $! == EAGAIN || $! == EINTR; exit 1; }
    exit 0 if !$n;
    $spoken_to = time;
    while (length $bytes) {
        if ($raw) {
            my $take = $raw < length $bytes ? substr($bytes, 0, $raw, '') : $bytes;
            $bytes = '' if length $take == length $bytes;
            $raw -= length $take;
            fail('more bytes came than the file has') if $have + length $take > $size;
            append($take);
            next;
        }
        my $end = index $bytes, "\n";
        if ($end < 0) { $input .= $bytes; return; }
        my ($word, @rest) = split ' ', $input . substr $bytes, 0, $end + 1, '';
        $input = '';
        if ($word eq 'data') { $raw = $rest[0]; }
        elsif ($word eq 'token') { $token = $rest[0]; }
        elsif ($word eq 'pull') { pull(@rest); }
    }
}

sub drop_guest { my $guest = delete $guests{fileno $_[0]}; close $guest->{socket}; }

# A guest first says who it is, then gets what there is, as fast as it takes it.
sub serve {
    my ($guest) = @_;
    my $socket = $guest->{socket};
    if (!defined $guest->{at}) {
        my $n = sysread $socket, $guest->{asked}, 200, length $guest->{asked};
        return if !defined $n && ($! == EAGAIN || $! == EINTR);
        return drop_guest($socket) if !$n;
        return drop_guest($socket) if length $guest->{asked} >= 200;
        return if $guest->{asked} !~ /\n/;
        my ($shown, $at) = split ' ', $guest->{asked};
        return drop_guest($socket) if !length $token || $shown ne $token || $at !~ /^\d+$/ || $at > $size;
        $guest->{at} = $at;
        return;
    }
    if ($guest->{sent} >= length $guest->{out}) {
        if ($guest->{at} < $have) {
            my $bytes = bytes_at($guest->{at});
            $guest->{at} += length $bytes;
            $guest->{out} = pack('N', length $bytes) . $bytes;
        } elsif ($guest->{at} >= $size) {
            return drop_guest($socket);
        } elsif (time > $guest->{told}) {
            $guest->{out} = pack 'N', 0;
        } else {
            return;
        }
        $guest->{sent} = 0;
    }
    my $n = syswrite $socket, $guest->{out}, length($guest->{out}) - $guest->{sent}, $guest->{sent};
    if (!defined $n) { return if $! == EAGAIN || $! == EINTR; return drop_guest($socket); }
    $guest->{sent} += $n;
    $guest->{told} = time;
}

sub hash_on {
    if ($hashed < $size) {
        my $n = syswrite $hash_in, bytes_at($hashed);
        if (!defined $n) { return if $! == EAGAIN || $! == EINTR; fail("the digest cannot be computed: $!"); }
        $hashed += $n;
        return if $hashed < $size;
    }
    close $hash_in;
    my $is = (split ' ', <$hash_out> // '')[0] // '';
    waitpid $hash_pid, 0;
    fail('the digest cannot be computed: is there sha256sum?') if $is !~ /^[0-9a-f]{64}$/;
    if ($is eq $digest) { $done = 1; return place(); }
    # Nobody gets wrong bytes from here a second time.
    close $_->{socket} for values %guests;
    %guests = ();
    truncate $file, 0;
    ($have, $last, $last_at) = (0, '', 0);
    say_line("bad $is");
    hash_begin();
}

while (1) {
    my ($r, $w) = ('', '');
    vec($r, fileno STDIN, 1) = 1;
    # Who comes before the token is known waits at the door.
    vec($r, fileno $door, 1) = 1 if $port && length $token;
    vec($r, fileno $placed, 1) = 1 if $placing;
    if ($source && defined $tried) { vec($w, fileno $source, 1) = 1; }
    elsif ($source) { vec($r, fileno $source, 1) = 1; }
    if (!$done && ($hashed < $have || $have == $size)) { vec($w, fileno $hash_in, 1) = 1; }
    for my $guest (values %guests) {
        my $number = fileno $guest->{socket};
        if (!defined $guest->{at}) { vec($r, $number, 1) = 1; next; }
        my $wants = $guest->{sent} < length $guest->{out} || $guest->{at} < $have || $guest->{at} >= $size;
        vec($w, $number, 1) = 1 if $wants || time > $guest->{told};
    }
    select $r, $w, undef, 1;
    # Silence counts once all that came is read: a disk that stalls keeps this program from reading, not others from speaking.
    if (vec $r, fileno STDIN, 1) { from_bramble(); }
    # An sshd whose client vanished may never learn of it.
    elsif (time - $spoken_to > $abandoned) { exit 1; }
    if ($source && (vec($r, fileno $source, 1) || vec($w, fileno $source, 1))) { from_source(); }
    elsif ($source && time - $heard > $silence) { source_lost("it has been silent for $silence s"); }
    if ($port && vec $r, fileno $door, 1) {
        if (accept(my $socket, $door) && keys %guests < 64) {
            $guests{fileno $socket} = { socket => quick($socket), asked => '', out => '', sent => 0, told => time };
        }
    }
    for my $number (keys %guests) {
        my $guest = $guests{$number};
        if (vec($r, $number, 1) || vec($w, $number, 1)) { serve($guest); }
        # Who belongs here shows the token at once.
        elsif (!defined $guest->{at} && time - $guest->{told} > 5) { drop_guest($guest->{socket}); }
    }
    hash_on() if !$done && vec $w, fileno $hash_in, 1;
    if ($placing && vec $r, fileno $placed, 1) {
        waitpid $placing, 0;
        fail('the file cannot be put into its place') if $?;
        undef $placing;
        say_line('good');
    }
    if (time > $said && (!$done || $placing)) { $said = time; say_line("have $have"); }
}
