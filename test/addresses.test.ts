import { expect, test } from 'vitest'
import { addressGroup, addressRule, canonicalAddress, proxyRule } from '../src/addresses.ts'

test.each([
  ['192.0.2.1', '192.0.2.1'],
  ['::ffff:192.0.2.1', '192.0.2.1'],
  ['::FFFF:c000:0201', '192.0.2.1'],
  ['fe80::1%eth0', 'fe80::1'],
  ['2001:DB8:0:0:0:0:0:1', '2001:db8::1'],
  ['192.0.2.1:40000', '192.0.2.1'],
  ['[2001:db8::1]:443', '2001:db8::1'],
  ['[2001:db8::1]', '2001:db8::1'],
  ['2001:db8::1:443', '2001:db8::1:443'],
  ['192.0.2.1:port', undefined],
  ['192.0.2:443', undefined],
  ['[robot.example]:443', undefined],
  ['robot.example', undefined],
  ['', undefined],
])('%j is the address %j', (text, address) => {
  expect(canonicalAddress(text)).toBe(address)
})

test.each([
  ['192.0.2.1', '192.0.2.1'],
  ['::ffff:192.0.2.1', '192.0.2.1'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
  ['2001:db8::6', '2001:db8:0:0::/64'],
  ['::1', '0:0:0:0::/64'],
  ['1::', '1:0:0:0::/64'],
  ['nonsense', 'unknown'],
])('%j is counted as %j', (text, group) => {
  expect(addressGroup(text)).toBe(group)
})

test.each([
  [[], 'anything', true],
  [['10.0.0.0/8'], '10.255.255.255', true],
  [['10.0.0.0/8'], '11.0.0.0', false],
  [['10.0.0.0/8'], '::ffff:10.1.2.3', true],
  [['192.0.2.7/32'], '192.0.2.7', true],
  [['192.0.2.7/32'], '192.0.2.8', false],
  [['0.0.0.0/0'], '2001:db8::1', false],
  [['::/0'], '2001:db8::1', true],
  [['2001:db8::/32'], '2001:db8:ffff::1', true],
  [['::ffff:10.0.0.0/104'], '10.1.2.3', true],
  [['10.0.0.0/8', '2001:db8::/32'], 'nonsense', false],
])('%j admits %j: %j', (cidrs, address, admitted) => {
  expect(addressRule(cidrs)(address)).toBe(admitted)
})

test('proxies are those named, also where they write their port; nobody is where none are named', () => {
  const trusts = proxyRule(['10.0.0.0/8', '2001:db8::1'])
  for (const address of ['10.0.0.1', '10.0.0.1:443', '::ffff:10.0.0.1', '[2001:db8::1]:443'])
    expect(trusts(address), address).toBe(true)
  for (const address of ['192.0.2.1', '2001:db8::2', 'nonsense', undefined])
    expect(trusts(address), address).toBe(false)
  expect(proxyRule([])('10.0.0.1')).toBe(false)
})
