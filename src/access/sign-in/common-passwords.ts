/** Words and rows of keys that passwords of twelve characters and more are made of when nobody thinks about them. */
export const COMMON_PASSWORDS: ReadonlySet<string> = new Set(
  `123456789012 1234567890123 12345678901234 123456789123 123123123123 123456123456 111122223333 987654321012
  012345678901 0123456789012 098765432109 112233445566 121212121212 qwertyuiop qwertyuiopasdfghjkl qwertyuiop123
  qwertyuiopas 1qaz2wsx3edc 1qaz2wsx3edc4rfv qazwsxedcrfv q1w2e3r4t5y6 1q2w3e4r5t6y qwerty123456 qwerty qwertz
  qwertzuiop qwertzuiopasdf azertyuiop azertyuiopqs asdfghjkl asdfghjklqwerty zxcvbnm zxcvbnmasdfghjkl password
  passwords passwordpassword password1234 password12345 mypassword thisismypassword passw0rd p@ssw0rd pa$$word
  passphrase passwort kennwort geheim geheimnis motdepasse contraseña contrasena senha parola wachtwoord
  administrator admin adminadmin admin123admin superadmin superuser rootroot root toor letmein letmeinplease
  pleaseletmein welcome welcomeback welcomehome changeme changemenow changemeplease changeit default defaultpassword
  temporary temporarypassword temppassword secret secretpassword topsecret verysecret mysecret iloveyou
  iloveyouforever iloveyousomuch loveyou monkey dragon sunshine princess football baseball basketball superman
  batman starwars trustno1 whatever master shadow michael jennifer liverpool chelsea manchester
  manchesterunited freedom computer internet samsung microsoft google facebook correcthorsebatterystaple
  correcthorse abcdefghijkl abcdefghijklm abcdefghijklmnop abcdefghijklmnopqrstuvwxyz abcdefghij abcdefg abcabcabcabc
  abc123abc123 abcd1234abcd testtesttest testing test testuser testpassword guest guestguest demo demodemo
  spring summer autumn winter januar january february march april june july august september october november december
  monday tuesday wednesday thursday friday saturday sunday robot robots robotrobot roboflare beacon beaconbeacon
  control controlplane raspberry raspberrypi ubuntu ubuntuubuntu linux`
    .split(/\s+/)
    .filter(Boolean),
)
