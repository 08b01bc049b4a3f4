import type { Robot } from '../../api/types.ts'
import { Connection, Health } from '../../ui/badge.tsx'
import { Button } from '../../ui/button.tsx'
import { PageHead } from '../../ui/page-head.tsx'
import { usePages } from '../../ui/pages.ts'
import { Empty, Shown } from '../../ui/states.tsx'
import { Ago } from '../../ui/times.tsx'

/** The robots, with how they are. */
export function Fleet() {
  const robots = usePages<Robot>('/api/robots')
  return (
    <>
      <PageHead title="Fleet" />
      <Shown loaded={robots}>
        {(items) =>
          items.length === 0 ? (
            <Empty title="No robots yet">
              <a href="/welcome">Enrol the first one</a>
            </Empty>
          ) : (
            <div class="table-wrap">
              <table class="table">
                <thead>
                  <tr>
                    <th>Robot</th>
                    <th>Connection</th>
                    <th>Health</th>
                    <th>Heard</th>
                  </tr>
                </thead>
                <tbody>
                  {items.map((robot) => (
                    <tr key={robot.id}>
                      <td>
                        <a href={`/robots/${robot.id}`}>{robot.name}</a>
                      </td>
                      <td>
                        <Connection robot={robot} />
                      </td>
                      <td>
                        <Health health={robot.health} />
                      </td>
                      <td>
                        <Ago time={robot.last_seen_at} />
                      </td>
                    </tr>
                  ))}
                </tbody>
              </table>
              {robots.more && <Button onClick={robots.more}>More</Button>}
            </div>
          )
        }
      </Shown>
    </>
  )
}
