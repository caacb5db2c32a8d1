#!/bin/sh
# Installs packages in one version from the repository in /etc/apt/sources.list.d/lb.sources, and starts nothing.
#   install.sh VERSION PACKAGE...
# apt-get does it alone: Ansible's module needs a library that a fresh machine has not.
set -eu
export DEBIAN_FRONTEND=noninteractive
version=$1
shift
for package; do
	shift
	set -- "$@" "$package=$version"
done

# Always, and not only when the list is old: a release may be fresh. No other list: a source that is away is no matter of ours.
apt-get update --quiet --error-on=any --option=APT::Get::List-Cleanup=false \
	--option=Dir::Etc::SourceList=/etc/apt/sources.list.d/lb.sources --option=Dir::Etc::SourceParts=/dev/null

install() {
	apt-get install --yes --quiet --no-install-recommends --allow-downgrades --allow-change-held-packages \
		--option=DPkg::Lock::Timeout=60 --option=Dpkg::Options::=--force-confdef --option=Dpkg::Options::=--force-confold "$@"
}
# Unless what they depend on is in a list that this machine has never read.
install --simulate "$@" > /dev/null 2>&1 || apt-get update --quiet

# Nothing starts or restarts yet: first there must be a configuration, and calls must be elsewhere.
policy=/usr/sbin/policy-rc.d
mark='# Until lb is installed.'
restore() {
	rm -f $policy
	test ! -e $policy.lb || mv $policy.lb $policy
}
# It is still ours when a run before was cut off.
if grep -Fqs "$mark" $policy; then restore; fi
trap restore EXIT
trap 'exit 1' HUP INT TERM
test ! -e $policy || mv $policy $policy.lb
printf '#!/bin/sh\n%s\nexit 101\n' "$mark" > $policy
chmod 755 $policy
install "$@"
